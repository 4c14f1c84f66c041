"""Protocols of circuits."""

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Float

from metarule.types import CircuitStep, PRNGKey, Stimulus, Weights

__all__ = ["Activated", "Chunkable", "Circuit", "LearnedInitial", "PartlyPlastic", "Paths", "SignConstrained"]
__all__ += ["Sized", "Stochastic"]


@runtime_checkable
class Circuit(Protocol):
    """Neurons and projections: who is wired to whom, and which local variables each synapse sees."""

    def init(self, key: PRNGKey, inputs: int, outputs: int) -> tuple[Weights, Any, Any]:
        """Draw (a weight matrix [pre, post] for each projection, constant wiring or `()`, initial state or `()`)."""

    def step(self, weights: Weights, wiring: Any, state: Any, stimulus: Stimulus) -> CircuitStep:
        """Compute the response to one stimulus, and what each synapse sees. Weights are changed by the rule only."""


@runtime_checkable
class Activated(Protocol):
    """A circuit that names the activation of its output neurons, so that it is checked against the loss."""

    @property
    def output(self) -> str:
        """Activation of the output neurons, such as `sigmoid`."""


@runtime_checkable
class Sized(Protocol):
    """A circuit that may have fixed numbers of inputs and outputs."""

    @property
    def sizes(self) -> tuple[int, int] | None:
        """Numbers of inputs and outputs; None if any are possible."""


@runtime_checkable
class Paths(Protocol):
    """A circuit whose projections are on named paths, each of which may have its own θ; by default all are on one."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Path of each projection, such as `forward` or `feedback`."""


@runtime_checkable
class PartlyPlastic(Protocol):
    """A circuit with projections that the rule does not change; by default it changes all."""

    @property
    def plastic(self) -> tuple[bool, ...]:
        """One truth value for each projection."""


@runtime_checkable
class Chunkable(Protocol):
    """A circuit whose `step` may take a first weight matrix with one row a step of a chunk, and a one-hot input."""

    @property
    def chunkable(self) -> bool:
        """True if it does; its first projection reads the stimulus only, and its weights make potentials only."""


@runtime_checkable
class Stochastic(Protocol):
    """A circuit that may draw random numbers at each step, from the key of the stimulus."""

    @property
    def stochastic(self) -> bool:
        """True if it does."""


@runtime_checkable
class SignConstrained(Protocol):
    """A circuit with weights that the rule cannot move below a bound, such as 0 for the size of a synapse."""

    @property
    def lower_bounds(self) -> tuple[float | None, ...]:
        """Lower bound of the weights of each projection; None for −weight_bound."""


@runtime_checkable
class LearnedInitial(Protocol):
    """A circuit whose initial weights may be meta-learned together with θ of the rule."""

    @property
    def learns_initial(self) -> bool:
        """True if they are."""

    def initial_values(self, weights: Weights, wiring: Any) -> dict[str, Float[Array, "..."]]:
        """Arrays that are meta-learned, by name, as `init` has drawn them."""

    def with_initial_values(
        self, values: dict[str, Float[Array, "..."]], weights: Weights, wiring: Any
    ) -> tuple[Weights, Any]:
        """Weights and wiring with the arrays that are meta-learned in their places."""
