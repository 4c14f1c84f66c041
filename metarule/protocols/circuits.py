"""Protocols of circuits."""

from typing import Any, Protocol, runtime_checkable

from metarule.types import CircuitStep, PRNGKey, Stimulus, Weights

__all__ = ["Activated", "Chunkable", "Circuit", "PartlyPlastic", "Paths", "Sized"]


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
