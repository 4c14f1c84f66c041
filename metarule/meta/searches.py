"""Algorithms of evosax: genetic, annealing, CMA-ES, OpenAI-ES, and random search as a control."""

from functools import partial
from typing import Annotated, Any, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax.custom_batching import sequential_vmap
from jaxtyping import Array, Float
from msgspec import Meta

from metarule.meta.population import Candidates, Losses, Population, Vector
from metarule.types import Integer, PRNGKey

__all__ = ["CMAES", "Annealing", "AnySearch", "Genetic", "OpenES", "RandomSearch"]


class Genetic(Population, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="genetic"):
    """Genetic algorithm: the best candidates have children by uniform crossover and Gaussian mutation.

    child = m ∘ parent₁ + (1 − m) ∘ parent₂ + σₜ·noise,  σₜ = spread · shrink^(t / steps)

    The parents of the first generation are drawn around the initial θ. The best so far is one of the children of each
    generation, so that it is not lost.

    Attributes:
        elites: share of a generation that has children.
        crossover: chance of each number to come from the other parent.
        shrink: size of the last mutations as a share of that of the first.

    References:
        Holland 1975; De Jong 1975 (the best is kept); Such et al. 2017.
    """

    elites: Annotated[float, Meta(gt=0, le=1)] = 0.25
    crossover: Annotated[float, Meta(ge=0, le=1)] = 0.5
    shrink: Annotated[float, Meta(gt=0, le=1)] = 0.1

    def _algorithm(self, start: Vector) -> tuple[Any, Any]:
        algorithm = _evosax().SimpleGA(self.population, start, std_schedule=_shrinking(self))
        algorithm.elite_ratio = self.elites
        return algorithm, algorithm.default_params.replace(crossover_rate=self.crossover)

    def _initial(self, key: PRNGKey, start: Vector) -> tuple[Any, ...]:
        """First generation around the initial θ, not evaluated yet."""
        noise = jax.random.normal(key, (self.population, start.size), start.dtype)
        return (start[None] + self.spread * noise).at[0].set(start), jnp.zeros(self.population)

    def _with_known(self, candidates: Candidates, search: Any, best: Vector) -> Candidates:
        return candidates.at[0].set(best)

    def _challenger(self, search: Any, candidates: Candidates, losses: Losses) -> Vector:
        return _fittest(candidates, losses)


class Annealing(Population, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="annealing"):
    """Simulated annealing: the best of some steps from the present θ is accepted if it is better, else by chance.

    P(accepted) = min(1, exp(−(loss − present loss) / Tₜ)),  Tₜ = temperature · cooling^(t / steps)

    Steps are Gaussian with σₜ = spread · shrink^(t / steps). The present θ is evaluated again with the steps from it,
    so that losses of the same lifetimes are compared.

    Attributes:
        temperature: T₀, first temperature, relative to the meta-loss.
        cooling: last temperature as a share of the first.
        shrink: size of the last steps as a share of that of the first.

    References:
        Kirkpatrick, Gelatt, Vecchi 1983; Metropolis et al. 1953.
    """

    temperature: Annotated[float, Meta(gt=0)] = 0.001
    cooling: Annotated[float, Meta(gt=0, le=1)] = 0.01
    shrink: Annotated[float, Meta(gt=0, le=1)] = 0.1

    def _algorithm(self, start: Vector) -> tuple[Any, Any]:
        algorithm = _evosax().SimulatedAnnealing(self.population, start, std_schedule=_shrinking(self))
        params = algorithm.default_params.replace(
            temperature_init=self.temperature,
            temperature_limit=0.0,
            temperature_decay=self.cooling ** (1 / self.steps),
            boltzmann_constant=1.0,
        )
        return algorithm, params

    def _with_known(self, candidates: Candidates, search: Any, best: Vector) -> Candidates:
        return candidates.at[0].set(search.mean)

    def _compared(self, losses: Losses, search: Any) -> tuple[Losses, Any]:
        # The present θ is candidate 0; its losses on earlier lifetimes must not decide.
        return losses.at[0].set(jnp.inf), search.replace(fitness=losses[0])


class CMAES(Population, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="cma_es"):
    """Evolution strategy with covariance matrix adaptation; its best θ is the mean of the distribution.

    θᵢ ~ N(m, σ²C), and m, σ and C follow the better half of the generation

    References:
        Hansen, Ostermeier 2001; Hansen 2016, "The CMA Evolution Strategy: A Tutorial".
    """

    spread: Annotated[float, Meta(gt=0)] = 0.05

    def _algorithm(self, start: Vector) -> tuple[Any, Any]:
        algorithm = _evosax().CMA_ES(self.population, start)
        return algorithm, algorithm.default_params.replace(std_init=jnp.asarray(self.spread, start.dtype))

    def _ask(self, algorithm: Any, key: PRNGKey, search: Any, params: Any) -> tuple[Candidates, Any]:
        # Batches of eigendecompositions on several devices of a CPU can wait for each other's threads forever.
        return sequential_vmap(partial(super()._ask, algorithm))(key, search, params)


class OpenES(Population, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="open_es"):
    """Evolution strategy with ranked antithetic pairs, and Adam on the gradient that they estimate.

    g = 1/(nσ) Σᵢ rankᵢ·εᵢ,  θᵢ = m + σ·εᵢ,  m ← Adam(m, g)

    Attributes:
        learning_rate: learning rate of Adam, in multiples of the parameter scale.

    Raises:
        ValueError: an odd population.

    References:
        Salimans, Ho, Chen, Sidor, Sutskever 2017.
    """

    spread: Annotated[float, Meta(gt=0)] = 0.01
    learning_rate: Annotated[float, Meta(gt=0)] = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.population % 2:
            raise ValueError(f"population = {self.population}: candidates come in pairs here; allowed: an even number")

    def _algorithm(self, start: Vector) -> tuple[Any, Any]:
        optimizer, spread = optax.adam(self.learning_rate), optax.constant_schedule(self.spread)
        algorithm = _evosax().Open_ES(self.population, start, optimizer=optimizer, std_schedule=spread)
        return algorithm, algorithm.default_params


class RandomSearch(
    Population, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="random_search"
):
    """Random search: candidates are drawn around the initial θ in every generation. A control for the other searches.

    θᵢ ~ N(θ₀, spread²)

    References:
        Bergstra, Bengio 2012 (random search as a baseline).
    """

    spread: Annotated[float, Meta(gt=0)] = 0.05

    def _algorithm(self, start: Vector) -> tuple[Any, Any]:
        def draw(key: PRNGKey) -> Vector:
            return start + self.spread * jax.random.normal(key, start.shape, start.dtype)

        algorithm = _evosax().RandomSearch(self.population, start, sampling_fn=draw)
        return algorithm, algorithm.default_params

    def _challenger(self, search: Any, candidates: Candidates, losses: Losses) -> Vector:
        return _fittest(candidates, losses)

    def _spread(self, search: Any) -> Float[Array, ""]:
        return jnp.asarray(self.spread, float)


# Those that a config can name.
AnySearch: TypeAlias = Genetic | Annealing | CMAES | OpenES | RandomSearch


def _evosax() -> Any:
    """Algorithms of evosax, imported when they are used: the import starts the backend of JAX."""
    import evosax.algorithms

    return evosax.algorithms


def _fittest(candidates: Candidates, losses: Losses) -> Vector:
    return candidates[jnp.argmin(losses)]


def _shrinking(search: Genetic | Annealing) -> optax.Schedule:
    def spread(step: Integer) -> Float[Array, ""]:
        return jnp.asarray(search.spread * search.shrink ** (step / search.steps), float)

    return spread
