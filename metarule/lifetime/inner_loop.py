"""Settings of the inner loop."""

from typing import Annotated, Literal

from msgspec import Meta

from metarule.config.schema import Checked

__all__ = ["LONGEST", "InnerLoop"]

# Largest number of steps of a lifetime.
LONGEST = 10_000_000


class InnerLoop(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Length of a lifetime, bound of the weights, and composition of the meta-loss.

    Attributes:
        steps: steps of a lifetime.
        weight_bound: weights stay within ±weight_bound. Tight bounds keep long lifetimes from being chaotic, so that
            their gradients are useful. In Python it may be infinite.
        online_loss_weight: share of the mean loss over the steps in the meta-loss; the rest is the mean loss of the
            final network on the evaluation examples. In a closed loop and with recordings it is 1, which a config need
            not say: there are no examples.
        l1: weight of Σ|θ| / scale in the meta-loss, which shrinks terms of little use to 0.
        initial_scale: parameter scale of learned initial weights, as a multiple of their root mean square. They are
            many, and fit the training tasks; with a smaller scale they move less than θ of the rule.
        theta: one θ `shared` by all projections, one `per_path` of the circuit (such as forward and feedback, or EE
            and IE), or one `per_projection`.
        bfloat16: weights and activities have 8 significant bits, which halves memory traffic on accelerators; θ, the
            meta-loss and the θ-gradient keep their precision. A change of less than 1/256 of a weight is lost.

    References:
        Tibshirani 1996 (the penalty on absolute values).
    """

    steps: Annotated[int, Meta(ge=1, le=LONGEST)] = 200
    weight_bound: Annotated[float, Meta(gt=0, extra={"infinite": True})] = 2.0
    online_loss_weight: Annotated[float, Meta(ge=0, le=1)] = 0.5
    l1: Annotated[float, Meta(ge=0)] = 0.0
    initial_scale: Annotated[float, Meta(gt=0)] = 1.0
    theta: Literal["shared", "per_path", "per_projection"] = "shared"
    bfloat16: bool = False
