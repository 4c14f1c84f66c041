"""Rules computed by a small network from local variables."""

from itertools import pairwise
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float
from msgspec import Meta

from metarule.activations import ACTIVATIONS
from metarule.config.schema import Checked
from metarule.rules.lifting import by_name, lift
from metarule.rules.terms import VARIABLES
from metarule.types import PRNGKey, Synapse, Theta

__all__ = ["MLP"]

Size = Annotated[int, Meta(ge=1, le=1024)]


class MLP(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="mlp"):
    """Multilayer perceptron of the local variables, the same at every synapse.

    h₁ = f(b₁ + Σᵥ v·uᵥ),  h_{l+1} = f(b_{l+1} + V_lᵀ·h_l),  Δw = output_scale · V_Lᵀ·h_L

    θ has `inputs`, the vector uᵥ of each variable v by name, and `layers`, with the `bias` b and the outgoing weights V
    (`weight`) of each hidden layer. With `initial_spread` = 0 the initial rule is Δw = 0.

    Attributes:
        inputs: v, local variables that the network reads.
        hidden: size of each hidden layer.
        activation: f, activation of the hidden layers.
        output_scale: Δw at a network output of 1.
        initial_spread: initial output weights are N(0, initial_spread²/size), those to hidden layers N(0, 1/size), with
            the size of the layer that they start from; initial biases are 0.

    Raises:
        ValueError: no inputs, an unknown input, or one that is given twice.

    References:
        Metz, Maheswaranathan, Cheung, Sohl-Dickstein 2019; Mehta, Tyulmankov, Rajagopalan, Turner, Fitzgerald, Funke
        2024.
    """

    inputs: Annotated[tuple[str, ...], Meta(min_length=1)] = ("pre", "post", "weight", "modulator")
    hidden: Annotated[tuple[Size, ...], Meta(min_length=1, max_length=8)] = (8,)
    activation: Literal["tanh", "sigmoid", "relu", "softplus"] = "tanh"
    output_scale: Annotated[float, Meta(gt=0)] = 0.1
    initial_spread: Annotated[float, Meta(ge=0)] = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        for number, name in enumerate(self.inputs):
            if name not in VARIABLES:
                raise ValueError(f"inputs: '{name}' is not a variable; allowed: {', '.join(VARIABLES)}")
            if name in self.inputs[:number]:
                raise ValueError(f"inputs: '{name}' is given twice")

    @property
    def meaning(self) -> dict[str, Any]:
        """Settings that θ depends on, besides the names of its parameters."""
        fields = ("inputs", "hidden", "activation", "output_scale")
        return {"kind": "mlp"} | {name: getattr(self, name) for name in fields}

    def init(self, key: PRNGKey) -> Theta:
        """Draw an initial θ."""
        spreads = self._spreads(self.initial_spread)
        flat, restore = ravel_pytree(spreads)
        return jax.tree.map(jnp.multiply, spreads, restore(jax.random.normal(key, flat.shape)))

    def scale(self) -> Theta:
        """Scale 1 for every parameter."""
        return jax.tree.map(jnp.ones_like, self._spreads(1.0))

    def memory(self, weight: Float[Array, "*synapse"]) -> tuple[()]:
        """No memory."""
        return ()

    def delta(self, theta: Theta, memory: Any, synapse: Synapse) -> tuple[Float[Array, ""], Any]:
        """Δw of one synapse."""
        values = synapse._asdict()
        potential = sum(values[name] * theta["inputs"][name] for name in self.inputs)
        for layer in theta["layers"]:
            potential = ACTIVATIONS[self.activation](potential + layer["bias"]) @ layer["weight"]
        return self.output_scale * potential[0], memory

    def update(self, theta: Theta, memory: Any, projection: Synapse) -> tuple[Float[Array, "pre post"], Any]:
        """ΔW of a projection: `delta` at each of its synapses.

        `delta` sums over variables one by one, so that no tensor of inputs is made; XLA broadcasts pre-side and
        post-side values. A hand-written matrix form is not faster.
        """
        return lift(self.delta)(theta, memory, projection)

    def describe(self, theta: Theta) -> dict[str, Float[Array, ""]]:
        """All parameters by name, such as `inputs.pre[0]`, `layers.0.bias[3]` or `layers.0.weight[3,0]`."""
        return by_name(theta)

    def equation(self, theta: Theta) -> str:
        """The rule in one line, such as `Δw = 0.1·mlp(pre, post, weight, modulator; 8 tanh)`."""
        sizes = " ".join(f"{size} {self.activation}" for size in self.hidden)
        return f"Δw = {self.output_scale:g}·mlp({', '.join(self.inputs)}; {sizes})"

    def _spreads(self, output: float) -> Theta:
        """Standard deviation of each parameter, given the spread of the output weights."""
        pairs = tuple(pairwise((*self.hidden, 1)))
        spreads = (*(1.0 for _ in self.hidden[1:]), output)
        return {
            "inputs": {name: jnp.full(self.hidden[0], len(self.inputs) ** -0.5) for name in self.inputs},
            "layers": tuple(
                {"bias": jnp.zeros(size), "weight": jnp.full((size, next_size), spread * size**-0.5)}
                for (size, next_size), spread in zip(pairs, spreads, strict=True)
            ),
        }
