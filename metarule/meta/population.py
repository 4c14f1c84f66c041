"""Search without gradients: candidates are asked for, live, and are told apart by their meta-loss alone."""

from functools import partial
from typing import Annotated, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int
from msgspec import Meta
from msgspec.structs import replace

from metarule.config.schema import Checked
from metarule.lifetime.unroll import lifetime_loss
from metarule.meta.training_tasks import TrainTasks, draw_lifetime
from metarule.parallel.batching import batch_lifetimes
from metarule.parallel.devices import sharded_jit
from metarule.types import Info, Integer, Learner, Metrics, Phase, PRNGKey, Theta

__all__ = ["SPREAD", "Ask", "Candidates", "Losses", "Population", "PopulationState"]

# Defaults of the spread, of OpenES' learning rate, and of Genetic's crossover did well in the two sweeps search-*.toml,
# over rules of 7, 16 and 81 terms each; what else searches have was not tuned.
SPREAD = "how far candidates are from the initial theta at first, in units of theta"

# Candidates, one a row, as numbers in the units of θ, and the meta-loss of each.
Candidates = Float[Array, "population numbers"]
Losses = Float[Array, " population"]


class Ask(NamedTuple):
    """An algorithm of evosax, ready to be asked.

    Attributes:
        algorithm: the algorithm.
        params: its numbers, which may be traced.
    """

    algorithm: Any
    params: Any

    def begin(self, key: PRNGKey, *given: Any) -> Any:
        """Its state before the first generation."""
        with _lenient():
            return self.algorithm.init(key, *given, self.params)

    def ask(self, key: PRNGKey, search: Any) -> tuple[Candidates, Any]:
        """Candidates of a generation, and its state with them."""
        with _lenient():
            return self.algorithm.ask(key, search, self.params)

    def tell(self, key: PRNGKey, candidates: Candidates, losses: Losses, search: Any) -> Any:
        """Its state once it knows what they are worth."""
        with _lenient():
            return self.algorithm.tell(key, candidates, losses, search, self.params)[0]


class PopulationState(NamedTuple):
    """What a search carries from one generation to the next.

    Attributes:
        step: generations so far.
        start: the initial θ.
        search: state of the algorithm.
        best: the best θ so far.
        best_loss: its meta-loss on the validation lifetimes.
        validation: key of these lifetimes.
    """

    step: Int[Array, ""]
    start: Theta
    search: Any
    best: Theta
    best_loss: Float[Array, ""]
    validation: PRNGKey


class Population(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag=False):
    """What every search has in common; each algorithm is a class of its own.

    zᵢ ~ algorithm,  θᵢ = u ∘ zᵢ,  fᵢ = 1/N Σⱼ loss(θᵢ; life j),  best ← the challenger if its f on V lifetimes is less

    u are the units of θ. All candidates of a generation live the same N lifetimes: the same tasks, initial weights and
    orders. Because the luckiest of many candidates is mostly lucky, what is kept is decided on V other lifetimes, the same
    in every generation: the challenger of each generation lives them, and takes over if it beats the best so far. They
    are lives on training tasks. A candidate with a lifetime that is not finite counts as worst.

    Attributes:
        steps: generations of a whole run.
        population: candidates a generation.
        batch_size: N, lives of each candidate, each on a task of its own.
        train_tasks: how many training tasks there are: `all` that the training pool holds, drawn at random, or a
            number, and then these alone are met, in turn.
        validation: V, fixed lives on which the best is decided.
        spread: how far candidates are from the initial θ at first, in units of θ.
        chunk_size: lives side by side on a device, which bounds the memory; what is found does not depend on it.
    """

    OBSERVES: ClassVar[tuple[str, ...]] = ("best_loss", "generation_best", "generation_median", "spread")

    steps: Annotated[int, Meta(ge=1, le=1_000_000_000, description="generations of a whole run")] = 200
    population: Annotated[int, Meta(ge=4, le=1_000_000, description="candidates a generation")] = 32
    batch_size: Annotated[
        int, Meta(ge=1, le=1_000_000, description="lives of each candidate, each on a task of its own")
    ] = 32
    train_tasks: TrainTasks = "all"
    validation: Annotated[
        int, Meta(ge=1, le=1_000_000, description="fixed training lifetimes on which the best is decided")
    ] = 128
    spread: Annotated[float, Meta(gt=0, description=SPREAD)] = 0.03
    chunk_size: Annotated[
        int, Meta(ge=1, le=1_000_000_000, description="lives side by side on a device, which bounds the memory")
    ] = 1024

    @property
    def lifetimes(self) -> int:
        """Lifetimes that a whole run costs, validation included."""
        return self.spent(self.steps)

    def spent(self, steps: int) -> int:
        """Lifetimes that so many generations cost, validation included."""
        return self.validation + steps * (self.population * self.batch_size + self.validation)

    @property
    def comparable(self) -> bool:
        """Meta-losses are all of the same lifetimes."""
        return True

    def phases(self, learner: Learner) -> tuple[Phase, ...]:
        """One part: whole lifetimes from first to last."""
        return (Phase(learner, self, self.steps),)

    def decided(self, learner: Learner, runs: int = 1) -> tuple["Population", str]:
        """The same with fewer lives side by side in each of several runs."""
        return replace(self, chunk_size=max(self.chunk_size // runs, 1)), ""

    def remedies(self, learner: Learner) -> tuple[str, ...]:
        """What a person may try where too many lifetimes come to nothing."""
        return (f"--optimizer.spread below {self.spread:g}",)

    def init(self, learner: Learner, pool: Any, theta: Theta, key: PRNGKey) -> PopulationState:
        """State before the first generation, with the initial θ as the best so far.

        Args:
            learner: who lives.
            pool: training tasks.
            theta: initial θ.
            key: decides the first candidates and the validation lifetimes.

        Returns:
            The state.
        """
        search_key, validation = jax.random.split(key)
        start = _numbers(learner, theta)
        search = _settled(self._begin(self._ask(start), search_key, start))
        loss, _ = sharded_jit()(partial(self._judge, learner))(pool, validation, theta)
        return PopulationState(jnp.zeros((), int), theta, search, theta, loss, validation)

    def step(self, learner: Learner, pool: Any, state: PopulationState, key: PRNGKey) -> tuple[PopulationState, Info]:
        """One generation.

        Args:
            learner: who lives.
            pool: training tasks.
            state: state before.
            key: the same at every generation; its number is folded in here.

        Returns:
            State after, and what was observed. `loss` and `metrics` are those of the challenger on the validation
            lives; `observed` holds the best loss on these so far, the best and the median loss of the generation, and
            the spread of the candidates.
        """
        ask_key, lives_key, tell_key = jax.random.split(jax.random.fold_in(key, state.step), 3)
        ask = self._ask(_numbers(learner, state.start))
        candidates, asked = ask.ask(ask_key, state.search)
        candidates = self._with_known(candidates, asked, _numbers(learner, state.best))
        thetas = jax.vmap(lambda numbers: _theta(learner, numbers))(candidates)
        each, _ = self._live(learner, pool, lives_key, self.batch_size, state.step, thetas)
        losses = _worst_where_not_finite(jnp.mean(each, axis=1))
        search = _settled(self._tell(ask, tell_key, candidates, losses, asked))
        challenger = _theta(learner, self._challenger(search, candidates, losses))
        loss, metrics = self._judge(learner, pool, state.validation, challenger)
        better = loss < state.best_loss
        after = PopulationState(
            step=state.step + 1,
            start=state.start,
            search=search,
            best=jax.tree.map(lambda new, old: jnp.where(better, new, old), challenger, state.best),
            best_loss=jnp.where(better, loss, state.best_loss),
            validation=state.validation,
        )
        none = jnp.zeros((), int)
        finite = jnp.where(jnp.isfinite(losses), losses, jnp.nan)
        observed = (after.best_loss, jnp.nanmin(finite), jnp.nanmedian(finite), self._spread(search))
        info = Info(
            loss=loss,
            metrics=metrics,
            observed=dict(zip(self.OBSERVES, observed, strict=True)),
            lifetimes=jnp.asarray(each.size),
            nonfinite_lifetimes=jnp.sum(~jnp.isfinite(each)),
            zero_gradient_lifetimes=none,
            rejected=none > 0,
            theta=after.best,
        )
        return after, info

    def theta(self, state: PopulationState) -> Theta:
        """θ of a state: the best so far."""
        return state.best

    def _ask(self, start: Float[Array, " numbers"]) -> Ask:
        """The algorithm, for a θ of so many numbers."""
        raise NotImplementedError

    def _begin(self, ask: Ask, key: PRNGKey, start: Float[Array, " numbers"]) -> Any:
        """Its state before the first generation."""
        return ask.begin(key, start)

    def _with_known(self, candidates: Candidates, search: Any, best: Float[Array, " numbers"]) -> Candidates:
        """The candidates, with one that was met before if the algorithm has it live again."""
        return candidates

    def _tell(self, ask: Ask, key: PRNGKey, candidates: Candidates, losses: Losses, search: Any) -> Any:
        """Its state once it knows what the candidates are worth."""
        return ask.tell(key, candidates, losses, search)

    def _challenger(self, search: Any, candidates: Candidates, losses: Losses) -> Float[Array, " numbers"]:
        """What the generation has to offer: the centre of the search, where it has one."""
        return search.mean

    def _spread(self, search: Any) -> Float[Array, ""]:
        """How far the candidates are from each other, in units of θ."""
        return search.std

    def _live(
        self, learner: Learner, pool: Any, key: PRNGKey, count: int, step: Integer, thetas: Theta
    ) -> tuple[Array, Any]:
        """Meta-losses and scores of the same lifetimes, so many, under each θ [population, lives]."""
        size = jax.tree.leaves(thetas)[0].shape[0]
        numbers = jnp.arange(count)

        def met(number: Integer) -> tuple[Any, PRNGKey]:
            return draw_lifetime(learner, pool, self.train_tasks, count, step, number, key)

        def lifetimes(theta: Theta) -> Any:
            return batch_lifetimes(lambda number: lifetime_loss(learner, theta, *met(number)), self.chunk_size)(numbers)

        def candidates(number: Integer) -> Any:
            task, lifetime_key = met(number)
            return batch_lifetimes(lambda theta: lifetime_loss(learner, theta, task, lifetime_key), self.chunk_size)(
                thetas
            )

        # Devices share what there is more of.
        if size > count:
            return batch_lifetimes(lifetimes, max(self.chunk_size // count, 1))(thetas)
        lived = batch_lifetimes(candidates, max(self.chunk_size // size, 1))(numbers)
        return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), lived)

    def _judge(self, learner: Learner, pool: Any, key: PRNGKey, theta: Theta) -> tuple[Float[Array, ""], Metrics]:
        """Mean meta-loss and scores on the validation lifetimes; a θ under which one of them is not finite is the worst."""
        alone = jax.tree.map(lambda leaf: leaf[None], theta)
        losses, metrics = self._live(learner, pool, key, self.validation, jnp.zeros((), int), alone)
        loss = jnp.mean(losses)
        return jnp.where(jnp.isfinite(loss), loss, jnp.inf), jax.tree.map(jnp.mean, metrics)


def _lenient() -> Any:
    """Shapes may be promoted: evosax relies on it, and a user may have forbidden it."""
    return jax.numpy_rank_promotion("allow")


def _numbers(learner: Learner, theta: Theta) -> Float[Array, " numbers"]:
    """θ as numbers in their units."""
    return ravel_pytree(theta)[0] / ravel_pytree(learner.theta_scale())[0]


def _theta(learner: Learner, numbers: Float[Array, " numbers"]) -> Theta:
    theta_scale, unravel = ravel_pytree(learner.theta_scale())
    return unravel(numbers * theta_scale)


def _worst_where_not_finite(losses: Losses) -> Losses:
    """∞ for what is not finite; where nothing is, NaN, from which no algorithm learns anything."""
    worst = jnp.where(jnp.isfinite(losses), losses, jnp.inf)
    return jnp.where(jnp.any(jnp.isfinite(losses)), worst, jnp.nan)


def _settled(search: Any) -> Any:
    """The state with array types that stay the same from one generation to the next: evosax begins with numbers."""
    return jax.tree.map(lambda leaf: jax.lax.convert_element_type(leaf, jnp.asarray(leaf).dtype), search)
