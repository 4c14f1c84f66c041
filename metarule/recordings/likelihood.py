"""Likelihood of recordings: Gaussian activity, Gaussian weights and Bernoulli choices, each over what was observed."""

from typing import NamedTuple, TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from metarule.types import Observed

__all__ = ["GAUSSIAN", "KINDS", "Fit", "Kind", "by_kind", "fit_of"]

Kind: TypeAlias = str
# Kinds of observations, of which the first two have Gaussian noise.
KINDS: tuple[Kind, ...] = ("activity", "weights", "choices")
GAUSSIAN: tuple[Kind, ...] = ("activity", "weights")

# Probabilities closer to 0 or 1 than this are taken for this, so that a choice that was ruled out has a finite loss.
_LEAST = 1e-9


class Fit(NamedTuple):
    """Fit of predictions to observations of one kind, and its derivatives.

    Attributes:
        observed: true where there is an observation.
        loss: ½·(prediction − observation)² for Gaussian kinds, in units of the variance of the noise, and
            −ln P(choice) for choices; 0 where there is no observation.
        slope: ∂loss/∂prediction.
        curvature: expectation of ∂²loss/∂prediction².
    """

    observed: Bool[Array, "*n"]
    loss: Float[Array, "*n"]
    slope: Float[Array, "*n"]
    curvature: Float[Array, "*n"]


def by_kind(observed: Observed, axes: int = 0) -> dict[Kind, Float[Array, "*batch _"]]:
    """Observations or predictions by kind, as one vector each; kinds that are absent are left out.

    Args:
        observed: the arrays.
        axes: number of leading axes that are kept.
    """
    groups = {
        "activity": [observed.activity],
        "weights": observed.weights,
        "choices": [None if observed.choice is None else observed.choice[..., None]],
    }
    present = {kind: [one for one in arrays if one is not None] for kind, arrays in groups.items()}
    flat = {kind: [one.reshape(*one.shape[:axes], -1) for one in arrays] for kind, arrays in present.items() if arrays}
    return {kind: jnp.concatenate(arrays, axis=-1) for kind, arrays in flat.items()}


def fit_of(kind: Kind, predicted: Float[Array, "*n"], observed: Float[Array, "*n"]) -> Fit:
    """Fit of predictions to observations of one kind, entry by entry."""
    is_observed = ~jnp.isnan(observed)
    if kind in GAUSSIAN:
        residual = jnp.where(is_observed, predicted - observed, 0.0)
        return Fit(is_observed, residual**2 / 2, residual, is_observed.astype(residual.dtype))
    p, choice = jnp.clip(predicted, _LEAST, 1 - _LEAST), jnp.where(is_observed, observed, 0.5)
    loss = -choice * jnp.log(p) - (1 - choice) * jnp.log1p(-p)
    curvature = 1 / (p * (1 - p))
    parts = (loss, (p - choice) * curvature, curvature)
    return Fit(is_observed, *(jnp.where(is_observed, part, 0.0) for part in parts))
