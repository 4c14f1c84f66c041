"""Search first, then descend: one run in which a search hands its best θ to gradient descent."""

from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from msgspec import Meta, Struct
from msgspec.structs import replace

from metarule.config.schema import Checked
from metarule.meta.gradient import Gradient, GradientState
from metarule.meta.population import PopulationState
from metarule.meta.searches import CMAES, AnySearch
from metarule.types import Info, Learner, Phase, PRNGKey, Theta

__all__ = ["Sequence", "SequenceState"]


class SequenceState(NamedTuple):
    """What is carried through both parts.

    Attributes:
        first: state of the search.
        then: state of gradient descent, which waits at its first meta-step while the search goes on.
    """

    first: PopulationState
    then: GradientState


class Sequence(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="sequence"):
    """A search without gradients, and gradient descent from the best θ that it finds.

    A search looks far, and does not mind where gradients are of no use; gradient descent is precise.

    Attributes:
        first: the search.
        then: gradient descent.
    """

    OBSERVES: ClassVar[tuple[str, ...]] = CMAES.OBSERVES + Gradient.OBSERVES

    first: Annotated[AnySearch, Meta(description="the search that comes first")] = CMAES(steps=50)
    then: Annotated[Gradient, Meta(description="gradient descent from the best theta of the search")] = Gradient()

    @property
    def steps(self) -> int:
        """Generations and meta-steps of a whole run."""
        return self.first.steps + self.then.steps

    @property
    def lifetimes(self) -> int:
        """Lifetimes that a whole run costs, at most."""
        return self.spent(self.steps)

    def spent(self, steps: int) -> int:
        """Lifetimes that so many generations and meta-steps cost, at most."""
        searched = min(steps, self.first.steps)
        return self.first.spent(searched) + self.then.spent(steps - searched)

    @property
    def train_tasks(self) -> int | Literal["all"]:
        """How many training tasks gradient descent meets."""
        return self.then.train_tasks

    @property
    def comparable(self) -> bool:
        """The two parts have meta-losses of different lives."""
        return False

    def phases(self, learner: Learner) -> tuple[Phase, ...]:
        """The parts of the search, then those of gradient descent."""
        searching = [phase._replace(optimizer=_Searching(sequence=self)) for phase in self.first.phases(learner)]
        descending = [
            phase._replace(optimizer=_Descending(sequence=self), end=self.first.steps + phase.end)
            for phase in self.then.phases(learner)
        ]
        return (*searching, *descending)

    def decided(self, learner: Learner, runs: int = 1) -> tuple["Sequence", str]:
        """The same with a named way to the θ-gradient, and why where that was left open."""
        first, _ = self.first.decided(learner, runs)
        then, reason = self.then.decided(learner, runs)
        return replace(self, first=first, then=then), reason

    def remedies(self, learner: Learner) -> tuple[str, ...]:
        """What a person may try where too many lifetimes come to nothing."""
        return (f"--optimizer.first.spread below {self.first.spread:g}", "a smaller learning rate")

    def init(self, learner: Learner, pool: Any, theta: Theta, key: PRNGKey) -> SequenceState:
        """State before the first generation; arguments as of the parts."""
        descending = self.then.phases(learner)[0].learner
        # The search parts its key in two, as by the numbers 0 and 1.
        first, then = self.first.init(learner, pool, theta, key), jax.random.fold_in(key, 2)
        return SequenceState(first, self.then.init(descending, pool, theta, then))

    def step(self, learner: Learner, pool: Any, state: SequenceState, key: PRNGKey) -> tuple[SequenceState, Info]:
        """One generation or meta-step, whichever is due; a stage knows which, and is the faster way."""
        return jax.lax.cond(
            state.first.step < self.first.steps,
            lambda: _Searching(sequence=self).step(learner, pool, state, key),
            lambda: _Descending(sequence=self).step(learner, pool, state, key),
        )

    def theta(self, state: SequenceState) -> Theta:
        """The best θ of the search, and θ of gradient descent once it has begun."""
        begun = state.then.step > 0
        return jax.tree.map(
            lambda then, first: jnp.where(begun, then, first),
            self.then.theta(state.then),
            self.first.theta(state.first),
        )


class _Searching(Struct, frozen=True, kw_only=True):
    """The first part of a sequence."""

    sequence: Sequence

    def step(self, learner: Learner, pool: Any, state: SequenceState, key: PRNGKey) -> tuple[SequenceState, Info]:
        """One generation."""
        first, info = self.sequence.first.step(learner, pool, state.first, key)
        return state._replace(first=first), _with_all_names(info)


class _Descending(Struct, frozen=True, kw_only=True):
    """The second part of a sequence."""

    sequence: Sequence

    def step(self, learner: Learner, pool: Any, state: SequenceState, key: PRNGKey) -> tuple[SequenceState, Info]:
        """One meta-step, the first of them from where the search has ended."""
        search, descent = self.sequence.first, self.sequence.then
        moved = descent.moved(state.then, search.theta(state.first))
        begun = state.then.step > 0
        here = jax.tree.map(lambda old, new: jnp.where(begun, old, new), state.then, moved)
        # A number that no generation has, so that no random number serves twice.
        then, info = descent.step(learner, pool, here, jax.random.fold_in(key, search.steps))
        return state._replace(then=then), _with_all_names(info)


def _with_all_names(info: Info) -> Info:
    """What one part does not observe is not a number in it."""
    unseen = {name: jnp.full((), jnp.nan, float) for name in Sequence.OBSERVES if name not in info.observed}
    return info._replace(observed=info.observed | unseen)
