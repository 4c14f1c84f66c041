"""Classification of points in the plane."""

import math
from typing import Annotated, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from msgspec import Meta

from metarule.config.schema import Checked
from metarule.prng import Purpose, run_key, stream
from metarule.tasks.base import rounds
from metarule.tasks.losses import BINARY_CROSS_ENTROPY, ActivatedLoss, binary_cross_entropy
from metarule.types import Integer, Metrics, PRNGKey, Split, Stimulus

__all__ = ["SHAPES", "Points", "PointsTask"]

Shape = Literal["blobs", "linear", "circles", "moons", "xor", "spirals", "gaussians"]

# Shapes by linear separability; classes of `gaussians` overlap.
SHAPES: dict[str, tuple[Shape, ...]] = {
    "separable": ("blobs", "linear"),
    "not_separable": ("circles", "moons", "xor", "spirals"),
    "all": ("blobs", "linear", "circles", "moons", "xor", "spirals"),
}
# Turns of a spiral; radius of the noise around the curves of moons and spirals.
_TURNS = 0.75
_NOISE = 0.08
# Standard deviation of a normal cloud; its share within two standard deviations, at which clouds are cut off.
_SPREAD = 0.25
_WITHIN = 1 - math.exp(-2)
# Distance of a cloud from the middle between two; the standard deviation at which nine tenths are on its own side.
_APART = 0.6
_OVERLAPPING = _APART / 1.2816


class PointsTask(NamedTuple):
    """Training and test examples of two classes.

    Attributes:
        train_examples: points in the order of steps.
        train_labels: their classes, 0 or 1.
        test_examples: other points.
        test_labels: their classes.
    """

    train_examples: Float[Array, "steps 2"]
    train_labels: Int[Array, " steps"]
    test_examples: Float[Array, "tests 2"]
    test_labels: Int[Array, " tests"]


class Points(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="points"):
    """Two classes of points in the plane, rotated, stretched, shifted and labelled at random.

    Linearly separable shapes are `blobs` (two clouds) and `linear` (a square divided by a line). The others are
    `circles` (a disc within a ring), `moons` (two interleaved crescents), `xor` (opposite quadrants) and `spirals` (two
    interleaved arms). Classes never overlap, except in `gaussians`: two normal clouds, of which the best classifier
    has an accuracy of 0.9; they are drawn only by name. Points are in rounds of one of each class; a lifetime longer
    than one pass repeats them in the same order.

    Attributes:
        shapes: `all` of which classes do not overlap, those that are `separable` or `not_separable`, or some by name;
            each task draws one of them.
        train_examples: points of each class in a pass.
        test_examples: other points of each class, on which the network is evaluated.
        label_noise: probability that the label of a training point is wrong; those of test points are right.

    Raises:
        ValueError: no shape.
    """

    shapes: Literal["all", "separable", "not_separable"] | tuple[Shape, ...] = "all"
    train_examples: Annotated[int, Meta(ge=1, le=100_000)] = 50
    test_examples: Annotated[int, Meta(ge=1, le=100_000)] = 50
    label_noise: Annotated[float, Meta(ge=0, lt=0.5)] = 0.0
    inputs: ClassVar[int] = 2
    outputs: ClassVar[int] = 1
    round_steps: ClassVar[int] = 2
    loss: ClassVar[ActivatedLoss] = BINARY_CROSS_ENTROPY
    primary_metric: ClassVar[str] = "accuracy"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.shape_names:
            raise ValueError(f"shapes = []; allowed: {', '.join(SHAPES)}, or some of {', '.join(_DRAW)}")

    def split(self, seed: Integer) -> Split:
        """Make two infinite pools, each a key; two tasks are equal with a probability of one in billions."""
        train, test = jax.random.split(stream(run_key(seed), Purpose.SPLIT))
        return Split(train=train, test=test)

    def sample(self, key: PRNGKey, pool: PRNGKey, index: Integer) -> PointsTask:
        """Sample a task; the index decides the shape, its position and the labels, the key the points in order."""
        shape_key, line_key, place_key, label_key = jax.random.split(jax.random.fold_in(pool, index), 4)
        point_key, order_key, noise_key = jax.random.split(key, 3)
        order = rounds(order_key, 2, self.train_examples).reshape(-1)
        sides = jnp.concatenate([order, jnp.tile(jnp.arange(2), self.test_examples)])
        shape = jax.random.randint(shape_key, (), 0, len(self.shape_names))
        cut = jax.random.uniform(line_key, (), minval=-0.4, maxval=0.4)
        draws = jax.random.uniform(point_key, (sides.size, 4))
        points_by_shape = jnp.stack([_DRAW[name](draws, sides == 1, cut) for name in self.shape_names])
        points = _place(place_key, points_by_shape[shape])
        labels = sides ^ jax.random.bernoulli(label_key).astype(sides.dtype)
        wrong = jax.random.bernoulli(noise_key, self.label_noise, order.shape).astype(sides.dtype)
        shown = labels[: order.size] ^ wrong
        return PointsTask(points[: order.size], shown, points[order.size :], labels[order.size :])

    def task_id(self, pool: PRNGKey, index: Integer) -> Integer:
        """The index: each task has a shape in a place of its own."""
        return index

    def stimulus(self, task: PointsTask, t: Integer, key: PRNGKey) -> Stimulus:
        """Point of step t, and its class."""
        turn = t % task.train_labels.size
        return _stimulus(task.train_examples[turn], task.train_labels[turn])

    def examples(self, task: PointsTask) -> Stimulus:
        """Test points."""
        return _stimulus(task.test_examples, task.test_labels)

    def metrics(self, output: Float[Array, "n outputs"], target: Float[Array, "n outputs"]) -> Metrics:
        """Accuracy and mean cross-entropy."""
        right = (output > 0.5) == (target > 0.5)
        return {
            "accuracy": jnp.mean(right.astype(output.dtype)),
            "cross_entropy": jnp.mean(jax.vmap(binary_cross_entropy)(output, target)),
        }

    @property
    def shape_names(self) -> tuple[Shape, ...]:
        """Names of the shapes."""
        return SHAPES[self.shapes] if isinstance(self.shapes, str) else self.shapes


def _stimulus(points: Float[Array, "*batch 2"], labels: Int[Array, "*batch"]) -> Stimulus:
    return Stimulus(input=points, target=labels[..., None].astype(points.dtype))


def _place(key: PRNGKey, points: Float[Array, "n 2"]) -> Float[Array, "n 2"]:
    """Stretch, rotate and shift points by one affine map, which keeps linear separability."""
    stretch_key, turn_key, shift_key = jax.random.split(key, 3)
    stretch = jax.random.uniform(stretch_key, (2,), minval=0.75, maxval=1.5)
    angle = jax.random.uniform(turn_key, (), maxval=2 * jnp.pi)
    shift = jax.random.uniform(shift_key, (2,), minval=-0.3, maxval=0.3)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    turn = jnp.stack([jnp.stack([cos, sin]), jnp.stack([-sin, cos])])
    # Not a matrix product, whose precision is lower on accelerators than on CPUs.
    return jnp.sum((points * stretch[None])[:, :, None] * turn[None], axis=1) + shift[None]


def _blobs(draws: Array, side: Array, cut: Array) -> Array:
    return _clouds(draws, side, _SPREAD, _WITHIN)


def _gaussians(draws: Array, side: Array, cut: Array) -> Array:
    return _clouds(draws, side, _OVERLAPPING, 1.0)


def _clouds(draws: Array, side: Array, spread: float, within: float) -> Array:
    """Two normal clouds, each of which is cut off where a share of it lies within."""
    sign = jnp.where(side, 1.0, -1.0)
    radius = spread * jnp.sqrt(-2 * jnp.log1p(-within * draws[:, 0]))
    return _polar(radius, draws[:, 1]) + jnp.stack([_APART * sign, jnp.zeros_like(sign)], axis=1)


def _linear(draws: Array, side: Array, cut: Array) -> Array:
    near, far = jnp.where(side, cut + 0.05, cut - 0.05), jnp.where(side, 1.0, -1.0)
    return jnp.stack([near + (far - near) * draws[:, 0], 2 * draws[:, 1] - 1], axis=1)


def _circles(draws: Array, side: Array, cut: Array) -> Array:
    inner, outer = jnp.where(side, 0.65, 0.0), jnp.where(side, 1.0, 0.45)
    return _polar(jnp.sqrt(inner**2 + (outer**2 - inner**2) * draws[:, 0]), draws[:, 1])


def _moons(draws: Array, side: Array, cut: Array) -> Array:
    angle, sign = jnp.pi * draws[:, 0], jnp.where(side, 1.0, -1.0)
    x, y = jnp.cos(angle) - 0.5, jnp.sin(angle) - 0.25
    return 0.7 * jnp.stack([sign * x, sign * y], axis=1) + _polar(_NOISE * draws[:, 2], draws[:, 3])


def _xor(draws: Array, side: Array, cut: Array) -> Array:
    x, y = 0.1 + 0.9 * draws[:, 0], 0.1 + 0.9 * draws[:, 1]
    flip = jnp.where(draws[:, 2] < 0.5, 1.0, -1.0)
    return jnp.stack([flip * x, jnp.where(side, flip, -flip) * y], axis=1)


def _spirals(draws: Array, side: Array, cut: Array) -> Array:
    radius = 0.2 + 0.8 * draws[:, 0]
    return _polar(radius, _TURNS * radius + jnp.where(side, 0.5, 0.0)) + _polar(_NOISE * draws[:, 2], draws[:, 3])


def _polar(radius: Array, turns: Array) -> Array:
    return radius[:, None] * jnp.stack([jnp.cos(2 * jnp.pi * turns), jnp.sin(2 * jnp.pi * turns)], axis=1)


_DRAW = {"blobs": _blobs, "linear": _linear, "circles": _circles, "moons": _moons, "xor": _xor, "spirals": _spirals}
_DRAW |= {"gaussians": _gaussians}
