"""Layered networks with a modulatory path back."""

from itertools import pairwise
from typing import Annotated, Literal

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from msgspec import Meta, Struct

from metarule.circuits.activations import ACTIVATIONS, Activation, derivative
from metarule.types import PRNGKey, Stimulus, Synapse, Weights

__all__ = ["Feedforward"]

Hidden = Literal["tanh", "sigmoid", "relu", "softplus", "identity"]
Output = Literal["sigmoid", "softmax", "tanh", "identity"]
Size = Annotated[int, Meta(ge=1, le=65536)]


class Feedforward(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="feedforward"):
    """Any depth and width; errors reach hidden neurons over a modulatory path.

    potential_l = W_lᵀ·[post_{l−1}; 1],  post_l = f(potential_l)
    modulator_L = target − output,       modulator_l = B_l·modulator_{l+1} [∘ f′(potential_l)]

    B_l is W_{l+1} (`transpose`), drawn once (`random`) or nothing (`zero`). The output modulators are
    −∂loss/∂potential where loss and output activation are a canonical pair (cross-entropy with sigmoid or softmax,
    squared error with identity). Then the delta rule over the transpose with f′ is backprop. The diffuse neuromodulator
    carries the reward, −mean (target − output)².

    Attributes:
        hidden: size of each hidden layer; `()` for none.
        activation: f of the hidden neurons.
        output: f of the output neurons.
        bias: whether every neuron has a plastic synapse from a neuron that is always at 1.
        backward: the path over which hidden modulators are formed.
        derivative: whether hidden modulators carry f′(potential).
        weight_scale: initial weights are N(0, weight_scale²/pre).
        backward_scale: random backward weights are N(0, backward_scale²/post).

    References:
        Rumelhart, Hinton, Williams 1986 (transpose); Lillicrap et al. 2016 (random).
    """

    hidden: Annotated[tuple[Size, ...], Meta(max_length=64, description="size of each hidden layer")] = (8,)
    activation: Annotated[Hidden, Meta(description="activation of hidden neurons")] = "tanh"
    output: Annotated[Output, Meta(description="activation of output neurons")] = "sigmoid"
    bias: Annotated[bool, Meta(description="a plastic synapse from a neuron that is always at 1")] = True
    backward: Annotated[
        Literal["transpose", "random", "zero"], Meta(description="path by which modulators reach hidden neurons")
    ] = "random"
    derivative: Annotated[bool, Meta(description="hidden modulators carry f'(potential)")] = False
    weight_scale: Annotated[float, Meta(ge=0, description="initial weights are N(0, weight_scale^2 / pre)")] = 1.0
    backward_scale: Annotated[
        float, Meta(ge=0, description="random backward weights are N(0, backward_scale^2 / post)")
    ] = 1.0

    @property
    def offers(self) -> tuple[str, ...]:
        """Fields of `Synapse` that its synapses see."""
        return ("pre", "post", "potential", "weight", "modulator", "neuromodulator")

    @property
    def paths(self) -> tuple[str, ...]:
        """Every projection leads forward."""
        return ("forward",) * (len(self.hidden) + 1)

    def init(self, key: PRNGKey, inputs: int, outputs: int) -> tuple[Weights, Weights, tuple[()]]:
        """Draw fresh weights.

        Args:
            key: decides the draw.
            inputs: number of input neurons.
            outputs: number of output neurons.

        Returns:
            (weights [pre (+1 with bias), post] by projection, random backward weights [post of the next, post] by
            hidden layer, activity, which is `()`).
        """
        sizes = (inputs, *self.hidden, outputs)
        forward_key, backward_key = jax.random.split(key)
        forward = [(pre + self.bias, post) for pre, post in pairwise(sizes)]
        weights = _normals(forward_key, forward, [self.weight_scale / pre**0.5 for pre, _ in forward])
        if self.backward != "random":
            return weights, (), ()
        backward = [(later, post) for post, later in pairwise(sizes[1:])]
        return (
            weights,
            _normals(backward_key, backward, [self.backward_scale / later**0.5 for later, _ in backward]),
            (),
        )

    def step(
        self, weights: Weights, wiring: Weights, activity: tuple[()], stimulus: Stimulus
    ) -> tuple[tuple[()], Float[Array, " outputs"], tuple[Synapse, ...]]:
        """Present one stimulus.

        Args:
            weights: as from `init`.
            wiring: as from `init`.
            activity: `()`.
            stimulus: input [inputs] and target [outputs].

        Returns:
            (activity, output [outputs], what the synapses of each projection see).
        """
        chex.assert_shape(stimulus.input, (weights[0].shape[0] - self.bias,))
        chex.assert_shape(stimulus.target, (weights[-1].shape[1],))
        pres, potentials, posts = self._forward(weights, stimulus.input)
        modulators = self._modulators(weights, wiring, potentials, stimulus.target - posts[-1])
        reward = -jnp.mean((stimulus.target - posts[-1]) ** 2)
        projections = tuple(
            Synapse(*seen, neuromodulator=reward)
            for seen in zip(pres, posts, potentials, weights, modulators, strict=True)
        )
        return (), posts[-1], projections

    def _forward(self, weights: Weights, signal: Float[Array, " inputs"]) -> tuple[list, list, list]:
        pres, potentials, posts = [], [], []
        for matrix, f in zip(weights, self._activations, strict=True):
            pres.append(jnp.append(signal, jnp.ones((), signal.dtype)) if self.bias else signal)
            potentials.append(pres[-1] @ matrix)
            signal = f(potentials[-1])
            posts.append(signal)
        return pres, potentials, posts

    def _modulators(
        self, weights: Weights, wiring: Weights, potentials: list, error: Float[Array, " outputs"]
    ) -> list[Float[Array, " post"]]:
        modulators = [error]
        for layer in reversed(range(len(self.hidden))):
            modulators.insert(0, self._back(weights[layer + 1], wiring[layer] if wiring else None, modulators[0]))
            if self.derivative:
                modulators[0] *= derivative(self._activations[layer], potentials[layer])
        return modulators

    def _back(
        self,
        forward: Float[Array, "pre post"],
        backward: Float[Array, "post hidden"] | None,
        modulator: Float[Array, " post"],
    ) -> Float[Array, " hidden"]:
        """Modulators one layer further back; the neuron that is always at 1 has none."""
        if backward is not None:
            return modulator @ backward
        feedback = forward[: forward.shape[0] - self.bias] @ modulator
        return feedback if self.backward == "transpose" else jnp.zeros_like(feedback)

    @property
    def _activations(self) -> tuple[Activation, ...]:
        return (ACTIVATIONS[self.activation],) * len(self.hidden) + (ACTIVATIONS[self.output],)


def _normals(key: PRNGKey, shapes: list[tuple[int, int]], scales: list[float]) -> Weights:
    """Normal matrices from one draw: each further draw would add half a second to compilation."""
    if not shapes:
        return ()
    sizes = [pre * post for pre, post in shapes]
    drawn = jnp.split(jax.random.normal(key, (sum(sizes),)), np.cumsum(sizes)[:-1].tolist())
    return tuple(scale * flat.reshape(shape) for scale, flat, shape in zip(scales, drawn, shapes, strict=True))
