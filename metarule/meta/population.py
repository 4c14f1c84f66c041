"""Searches without gradients, which compare candidates by their meta-loss."""

from functools import partial
from typing import Annotated, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int
from msgspec import Meta

from metarule.config.schema import Checked
from metarule.lifetime.unroll import either, lifetime_loss
from metarule.meta.training_tasks import Patience, TrainTasks, draw_lifetime
from metarule.parallel.batching import batch_lifetimes
from metarule.parallel.devices import sharded_jit
from metarule.protocols import Learner
from metarule.types import Info, Integer, Metrics, PRNGKey, Theta

__all__ = ["Candidates", "Losses", "Population", "PopulationState", "Vector"]

# The defaults of the spread, of the learning rate of OpenES and of the crossover of Genetic did well in the two sweeps
# search-*.toml, over rules of 7, 16 and 81 terms; the other settings were not tuned.

# Candidates, one a row, in multiples of the parameter scale, and the meta-loss of each.
Candidates = Float[Array, "population parameters"]
Losses = Float[Array, " population"]
# θ as a vector in multiples of the parameter scale.
Vector = Float[Array, " parameters"]


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
        train_tasks: `all` tasks of the training pool, drawn at random, or a number of tasks that are used in turn.
        patience: generations without a better score on validation tasks after which a run ends; 0 for none. These are
            a fifth of the training tasks, at most 256, and are scored every `evaluation.monitor_every` generations.
        validation: V, fixed training lifetimes that decide on the best.
        spread: initial distance of candidates from the initial θ, in multiples of the parameter scale.
        chunk_size: lifetimes computed at once on a device, which bounds the memory; results do not depend on it.
    """

    OBSERVES: ClassVar[tuple[str, ...]] = ("best_loss", "generation_best", "generation_median", "spread")

    steps: Annotated[int, Meta(ge=1, le=1_000_000_000)] = 200
    population: Annotated[int, Meta(ge=4, le=1_000_000)] = 32
    batch_size: Annotated[int, Meta(ge=1, le=1_000_000)] = 32
    train_tasks: TrainTasks = "all"
    patience: Patience = 0
    validation: Annotated[int, Meta(ge=1, le=1_000_000)] = 128
    spread: Annotated[float, Meta(gt=0)] = 0.03
    chunk_size: Annotated[int, Meta(ge=1, le=1_000_000_000)] = 1024

    def init(self, learner: Learner, pool: Any, theta: Theta, key: PRNGKey) -> PopulationState:
        """State before the first generation, with the initial θ as the best so far."""
        search_key, validation = jax.random.split(key)
        start = _vector(learner, theta)
        algorithm, params = self._algorithm(start)
        with _lenient():
            search = _stable_types(algorithm.init(search_key, *self._initial(search_key, start), params))
        loss, _ = sharded_jit()(partial(self._validate, learner))(pool, validation, theta)
        return PopulationState(jnp.zeros((), int), theta, search, theta, loss, validation)

    def step(self, learner: Learner, pool: Any, state: PopulationState, key: PRNGKey) -> tuple[PopulationState, Info]:
        """Run one generation; the key is the same at every generation, whose number is folded in here.

        `loss` and `metrics` are those of the challenger on the validation lifetimes. `observed` holds the best loss on
        these so far, the best and the median loss of the generation, and the spread of the candidates.
        """
        ask_key, batch_key, tell_key = jax.random.split(jax.random.fold_in(key, state.step), 3)
        algorithm, params = self._algorithm(_vector(learner, state.start))
        candidates, search = self._ask(algorithm, ask_key, state.search, params)
        candidates = self._with_known(candidates, search, _vector(learner, state.best))
        thetas = jax.vmap(lambda vector: _theta(learner, vector))(candidates)
        each, _ = self._run(learner, pool, batch_key, self.batch_size, state.step, thetas)
        losses = _infinite_if_not_finite(jnp.mean(each, axis=1))
        with _lenient():
            search = algorithm.tell(tell_key, candidates, *self._compared(losses, search), params)[0]
        search = _stable_types(search)
        challenger = _theta(learner, self._challenger(search, candidates, losses))
        loss, metrics = self._validate(learner, pool, state.validation, challenger)
        better = loss < state.best_loss
        after = state._replace(
            step=state.step + 1,
            search=search,
            best=either(better, challenger, state.best),
            best_loss=jnp.where(better, loss, state.best_loss),
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

    def _algorithm(self, start: Vector) -> tuple[Any, Any]:
        """An algorithm of evosax for a θ of this size, and its parameters, which may be traced."""
        raise NotImplementedError

    def _initial(self, key: PRNGKey, start: Vector) -> tuple[Any, ...]:
        """Arguments from which the algorithm makes its first state."""
        return (start,)

    def _ask(self, algorithm: Any, key: PRNGKey, search: Any, params: Any) -> tuple[Candidates, Any]:
        """Candidates of a generation, and the state of the search."""
        with _lenient():
            return algorithm.ask(key, search, params)

    def _with_known(self, candidates: Candidates, search: Any, best: Vector) -> Candidates:
        """Candidates, with a known one among them if the algorithm evaluates it again."""
        return candidates

    def _compared(self, losses: Losses, search: Any) -> tuple[Losses, Any]:
        """Losses and state by which the algorithm compares the candidates."""
        return losses, search

    def _challenger(self, search: Any, candidates: Candidates, losses: Losses) -> Vector:
        """Challenger of a generation: the centre of the search."""
        return search.mean

    def _spread(self, search: Any) -> Float[Array, ""]:
        """Spread of the candidates, in multiples of the parameter scale."""
        return search.std

    def _run(
        self, learner: Learner, pool: Any, key: PRNGKey, count: int, step: Integer, thetas: Theta
    ) -> tuple[Array, Any]:
        """Meta-losses and metrics of the same lifetimes under each θ [population, lifetimes]."""
        size, numbers = jax.tree.leaves(thetas)[0].shape[0], jnp.arange(count)
        batch = partial(batch_lifetimes, chunk_size=self.chunk_size)

        def drawn(number: Integer) -> tuple[Any, PRNGKey]:
            return draw_lifetime(learner, pool, self.train_tasks, count, step, number, key)

        def of_theta(theta: Theta) -> Any:
            return batch(lambda number: lifetime_loss(learner, theta, *drawn(number)))(numbers)

        def of_lifetime(number: Integer) -> Any:
            task, lifetime_key = drawn(number)
            return batch(lambda theta: lifetime_loss(learner, theta, task, lifetime_key))(thetas)

        # Devices share the larger of the two axes.
        if size > count:
            return batch_lifetimes(of_theta, max(self.chunk_size // count, 1))(thetas)
        results = batch_lifetimes(of_lifetime, max(self.chunk_size // size, 1))(numbers)
        return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), results)

    def _validate(self, learner: Learner, pool: Any, key: PRNGKey, theta: Theta) -> tuple[Float[Array, ""], Metrics]:
        """Mean meta-loss and metrics on the validation lifetimes; ∞ where one of them is not finite."""
        thetas = jax.tree.map(lambda leaf: leaf[None], theta)
        losses, metrics = self._run(learner, pool, key, self.validation, jnp.zeros((), int), thetas)
        loss = jnp.mean(losses)
        return jnp.where(jnp.isfinite(loss), loss, jnp.inf), jax.tree.map(jnp.mean, metrics)


def _lenient() -> Any:
    """Allow promotion of shapes, on which evosax relies, and which a user may have forbidden."""
    return jax.numpy_rank_promotion("allow")


def _vector(learner: Learner, theta: Theta) -> Vector:
    return ravel_pytree(theta)[0] / ravel_pytree(learner.theta_scale())[0]


def _theta(learner: Learner, vector: Vector) -> Theta:
    theta_scale, unravel = ravel_pytree(learner.theta_scale())
    return unravel(vector * theta_scale)


def _infinite_if_not_finite(losses: Losses) -> Losses:
    """Replace losses that are not finite by ∞; all by NaN if none is finite, so that nothing is learned from them."""
    worst = jnp.where(jnp.isfinite(losses), losses, jnp.inf)
    return jnp.where(jnp.any(jnp.isfinite(losses)), worst, jnp.nan)


def _stable_types(search: Any) -> Any:
    """Give the state array types that do not change between generations: evosax begins with Python numbers."""
    return jax.tree.map(lambda leaf: jax.lax.convert_element_type(leaf, jnp.asarray(leaf).dtype), search)
