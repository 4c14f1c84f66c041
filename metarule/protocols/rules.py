"""Protocols of rules."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Float, PyTree, Shaped

from metarule.types import Parts, PRNGKey, Synapse, Theta

__all__ = ["AffineInWeight", "Described", "Factored", "HasEquation", "HasMemory", "MatrixForm", "Rule", "Scaled"]


@runtime_checkable
class Rule(Protocol):
    """Δw = f(local variables; θ), the same function at every synapse."""

    def init(self, key: PRNGKey) -> Theta:
        """Draw an initial θ, a pytree of any structure."""

    def delta(self, theta: Theta, memory: Any, synapse: Synapse) -> tuple[Float[Array, ""], Any]:
        """Compute Δw of one synapse, whose local variables are scalars, and its memory after the step."""


@runtime_checkable
class HasMemory(Protocol):
    """A rule whose synapses have a memory, such as a trace; without this ability it is `()`."""

    def memory(self, weight: Float[Array, "*synapse"]) -> PyTree[Shaped[Array, "..."]]:
        """Initial memory of one synapse, or of all synapses of a projection if the weight is a matrix."""


@runtime_checkable
class MatrixForm(Protocol):
    """A rule with a fast form for a projection, equal to `delta` at each of its synapses; by default `lift(delta)`."""

    def update(self, theta: Theta, memory: Any, projection: Synapse) -> tuple[Float[Array, "pre post"], Any]:
        """Compute ΔW of a projection and its memory after the step."""


@runtime_checkable
class Scaled(Protocol):
    """A rule with a parameter scale; by default it is 1."""

    def scale(self) -> Theta:
        """Natural size of each parameter, shaped as θ; meta-optimisers use it as preconditioner."""


@runtime_checkable
class Described(Protocol):
    """A rule that names its parameters; by default their names are their paths in θ, such as `rate` or `gains[0]`."""

    def describe(self, theta: Theta) -> Mapping[str, Float[Array, ""]]:
        """Parameters by name."""


@runtime_checkable
class HasEquation(Protocol):
    """A rule that can be written as an equation; by default it is `Δw = NameOfTheClass(parameters)`."""

    def equation(self, theta: Theta) -> str:
        """One line that begins with `Δw = `."""


@runtime_checkable
class Factored(Protocol):
    """A rule whose ΔW may consist of `Parts`; then steps can be computed in chunks."""

    @property
    def factored(self) -> bool:
        """True if ΔW consists of parts."""

    def parts(self, theta: Theta, projection: Synapse) -> Parts:
        """Compute the parts of ΔW of a projection."""


@runtime_checkable
class AffineInWeight(Protocol):
    """A rule whose Δw may be affine in the weight; then steps can be inverted."""

    @property
    def affine(self) -> bool:
        """True if Δw is affine in the weight."""
