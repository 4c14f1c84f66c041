"""Searches without gradients: candidates are compared by their meta-loss."""

from functools import partial
from typing import Annotated, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int
from msgspec import Meta

from metarule.config.schema import Checked
from metarule.lifetime.unroll import lifetime_loss
from metarule.meta.training_tasks import TrainTasks, draw_lifetime
from metarule.parallel.batching import batch_lifetimes
from metarule.parallel.devices import sharded_jit
from metarule.protocols import Learner
from metarule.types import Info, Integer, Metrics, PRNGKey, Theta

__all__ = ["Ask", "Candidates", "Losses", "Population", "PopulationState"]

# The defaults of the spread, of the learning rate of OpenES and of the crossover of Genetic did well in the two sweeps
# search-*.toml, over rules of 7, 16 and 81 terms; the other settings were not tuned.

# Candidates, one a row, in multiples of the parameter scale, and the meta-loss of each.
Candidates = Float[Array, "population parameters"]
Losses = Float[Array, " population"]


class Ask(NamedTuple):
    """An algorithm of evosax with its parameters.

    Attributes:
        algorithm: the algorithm.
        params: its parameters, which may be traced.
    """

    algorithm: Any
    params: Any

    def begin(self, key: PRNGKey, *given: Any) -> Any:
        """State before the first generation."""
        with _lenient():
            return self.algorithm.init(key, *given, self.params)

    def ask(self, key: PRNGKey, search: Any) -> tuple[Candidates, Any]:
        """Candidates of a generation, and the state with them."""
        with _lenient():
            return self.algorithm.ask(key, search, self.params)

    def tell(self, key: PRNGKey, candidates: Candidates, losses: Losses, search: Any) -> Any:
        """State that knows the meta-losses of the candidates."""
        with _lenient():
            return self.algorithm.tell(key, candidates, losses, search, self.params)[0]


class PopulationState(NamedTuple):
    """State of a search.

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
    """The part that all searches share; each algorithm is a class of its own.

    zᵢ ~ algorithm,  θᵢ = s ∘ zᵢ,  fᵢ = 1/N Σⱼ loss(θᵢ; lifetime j),  best ← the challenger if its f on V lifetimes is
    less

    s is the parameter scale. All candidates of a generation run the same N lifetimes: the same tasks, initial weights
    and orders. The best of many candidates is mostly lucky; therefore V further lifetimes on training tasks decide, the
    same in every generation. The challenger of each generation runs them, and replaces the best so far if it is better.
    A candidate with a lifetime that is not finite counts as worst.

    Attributes:
        steps: generations of a run.
        population: candidates of a generation.
        batch_size: N, lifetimes of each candidate, each with its own task.
        train_tasks: number of training tasks: `all` tasks of the training pool, drawn at random, or a number of tasks
            that are used in turn.
        validation: V, fixed training lifetimes that decide on the best.
        spread: initial distance of candidates from the initial θ, in multiples of the parameter scale.
        chunk_size: lifetimes computed at once on a device, which bounds the memory; results do not depend on it.
    """

    OBSERVES: ClassVar[tuple[str, ...]] = ("best_loss", "generation_best", "generation_median", "spread")

    steps: Annotated[int, Meta(ge=1, le=1_000_000_000)] = 200
    population: Annotated[int, Meta(ge=4, le=1_000_000)] = 32
    batch_size: Annotated[int, Meta(ge=1, le=1_000_000)] = 32
    train_tasks: TrainTasks = "all"
    validation: Annotated[int, Meta(ge=1, le=1_000_000)] = 128
    spread: Annotated[float, Meta(gt=0)] = 0.03
    chunk_size: Annotated[int, Meta(ge=1, le=1_000_000_000)] = 1024

    def init(self, learner: Learner, pool: Any, theta: Theta, key: PRNGKey) -> PopulationState:
        """State before the first generation, with the initial θ as the best so far.

        Args:
            learner: the learner.
            pool: training tasks.
            theta: initial θ.
            key: decides the first candidates and the validation lifetimes.

        Returns:
            The state.
        """
        search_key, validation = jax.random.split(key)
        start = _vector(learner, theta)
        search = _stable_types(self._begin(self._ask(start), search_key, start))
        loss, _ = sharded_jit()(partial(self._judge, learner))(pool, validation, theta)
        return PopulationState(jnp.zeros((), int), theta, search, theta, loss, validation)

    def step(self, learner: Learner, pool: Any, state: PopulationState, key: PRNGKey) -> tuple[PopulationState, Info]:
        """Run one generation.

        Args:
            learner: the learner.
            pool: training tasks.
            state: state before it.
            key: the same at every generation; its number is folded in here.

        Returns:
            State after it, and its observables. `loss` and `metrics` are those of the challenger on the validation
            lifetimes; `observed` holds the best loss on these so far, the best and the median loss of the generation,
            and the spread of the candidates.
        """
        ask_key, batch_key, tell_key = jax.random.split(jax.random.fold_in(key, state.step), 3)
        ask = self._ask(_vector(learner, state.start))
        candidates, asked = ask.ask(ask_key, state.search)
        candidates = self._with_known(candidates, asked, _vector(learner, state.best))
        thetas = jax.vmap(lambda numbers: _theta(learner, numbers))(candidates)
        each, _ = self._run(learner, pool, batch_key, self.batch_size, state.step, thetas)
        losses = _infinite_if_not_finite(jnp.mean(each, axis=1))
        search = _stable_types(self._tell(ask, tell_key, candidates, losses, asked))
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

    def _ask(self, start: Float[Array, " parameters"]) -> Ask:
        """The algorithm for a θ of this size."""
        raise NotImplementedError

    def _begin(self, ask: Ask, key: PRNGKey, start: Float[Array, " parameters"]) -> Any:
        """State before the first generation."""
        return ask.begin(key, start)

    def _with_known(self, candidates: Candidates, search: Any, best: Float[Array, " parameters"]) -> Candidates:
        """Candidates, with a known one among them if the algorithm evaluates it again."""
        return candidates

    def _tell(self, ask: Ask, key: PRNGKey, candidates: Candidates, losses: Losses, search: Any) -> Any:
        """State that knows the meta-losses of the candidates."""
        return ask.tell(key, candidates, losses, search)

    def _challenger(self, search: Any, candidates: Candidates, losses: Losses) -> Float[Array, " parameters"]:
        """Challenger of a generation: the centre of the search."""
        return search.mean

    def _spread(self, search: Any) -> Float[Array, ""]:
        """Spread of the candidates, in multiples of the parameter scale."""
        return search.std

    def _run(
        self, learner: Learner, pool: Any, key: PRNGKey, count: int, step: Integer, thetas: Theta
    ) -> tuple[Array, Any]:
        """Meta-losses and metrics of the same lifetimes under each θ [population, lifetimes]."""
        size = jax.tree.leaves(thetas)[0].shape[0]
        numbers = jnp.arange(count)

        def drawn(number: Integer) -> tuple[Any, PRNGKey]:
            return draw_lifetime(learner, pool, self.train_tasks, count, step, number, key)

        def of_theta(theta: Theta) -> Any:
            return batch_lifetimes(lambda number: lifetime_loss(learner, theta, *drawn(number)), self.chunk_size)(
                numbers
            )

        def of_lifetime(number: Integer) -> Any:
            task, lifetime_key = drawn(number)
            return batch_lifetimes(lambda theta: lifetime_loss(learner, theta, task, lifetime_key), self.chunk_size)(
                thetas
            )

        # Devices share the larger of the two axes.
        if size > count:
            return batch_lifetimes(of_theta, max(self.chunk_size // count, 1))(thetas)
        results = batch_lifetimes(of_lifetime, max(self.chunk_size // size, 1))(numbers)
        return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), results)

    def _judge(self, learner: Learner, pool: Any, key: PRNGKey, theta: Theta) -> tuple[Float[Array, ""], Metrics]:
        """Mean meta-loss and metrics on the validation lifetimes; ∞ where one of them is not finite."""
        alone = jax.tree.map(lambda leaf: leaf[None], theta)
        losses, metrics = self._run(learner, pool, key, self.validation, jnp.zeros((), int), alone)
        loss = jnp.mean(losses)
        return jnp.where(jnp.isfinite(loss), loss, jnp.inf), jax.tree.map(jnp.mean, metrics)


def _lenient() -> Any:
    """Allow promotion of shapes, on which evosax relies, and which a user may have forbidden."""
    return jax.numpy_rank_promotion("allow")


def _vector(learner: Learner, theta: Theta) -> Float[Array, " parameters"]:
    """θ as a vector in multiples of the parameter scale."""
    return ravel_pytree(theta)[0] / ravel_pytree(learner.theta_scale())[0]


def _theta(learner: Learner, numbers: Float[Array, " parameters"]) -> Theta:
    theta_scale, unravel = ravel_pytree(learner.theta_scale())
    return unravel(numbers * theta_scale)


def _infinite_if_not_finite(losses: Losses) -> Losses:
    """Replace losses that are not finite by ∞; all by NaN if none is finite, so that nothing is learned from them."""
    worst = jnp.where(jnp.isfinite(losses), losses, jnp.inf)
    return jnp.where(jnp.any(jnp.isfinite(losses)), worst, jnp.nan)


def _stable_types(search: Any) -> Any:
    """Give the state array types that do not change between generations: evosax begins with Python numbers."""
    return jax.tree.map(lambda leaf: jax.lax.convert_element_type(leaf, jnp.asarray(leaf).dtype), search)
