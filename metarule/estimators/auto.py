"""The exact gradient by whichever way fits into memory."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import jax
from msgspec import Meta

from metarule.config.schema import Checked
from metarule.estimators.forward import Forward
from metarule.estimators.rebuilding import segment_length
from metarule.estimators.reverse import Reverse
from metarule.lifetime.learner import Lifetime
from metarule.lifetime.scans import Invertible, Plain, Remat, Segmented
from metarule.prng import run_key
from metarule.types import Estimate, Learner, LearnerState, LifetimeContext, PRNGKey, Theta

__all__ = ["Auto"]

_GIB = 2**30
# What is taken where the device does not say, and the share of a device that is taken where it does.
_UNKNOWN_GIB, _SHARE = 4.0, 0.5


class Auto(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="auto"):
    """Exact θ-gradient by the fastest way that fits into memory.

    bytes = lives · carries that are kept at once · bytes of a carry

    Tried in this order: reverse mode with a plain scan (which keeps all that a step's backward pass asks for; not on
    CPUs, where living a step again is faster than reading it back), with weights rebuilt where they can be, with remat,
    with segments, with segments of segments; then forward mode. Where nothing fits, the smallest is taken. All are
    exact, so that results differ by rounding alone, but for weights that are rebuilt and were clipped by less than it
    (see `Invertible`). Memory is told from shapes; compilers need somewhat more or less.
    Pick it unless you know better.

    Attributes:
        memory_gib: memory that the lifetimes of a meta-step may take: a number, or `device` for half of what the device
            says it has, and 4 GiB where it does not say.
    """

    memory_gib: Annotated[
        Annotated[float, Meta(gt=0)] | Literal["device"],
        Meta(description="memory for the lifetimes of a meta-step, or half of what the device has, 4 where unknown"),
    ] = "device"

    @property
    def lifetimes(self) -> int:
        """Lifetimes that one estimate costs."""
        return 1

    @property
    def whole(self) -> bool:
        """An estimate is of a whole lifetime."""
        return True

    def choose(self, learner: Learner, lifetimes: int = 1) -> tuple[Reverse | Forward, str]:
        """The way that is taken, and why.

        Args:
            learner: who lives.
            lives: how many live side by side.

        Returns:
            (estimator, reason in one line).
        """
        memory = self._memory()
        ways = [(way, float(lifetimes * size)) for way, size in _ways(learner)]
        fitting = [way for way in ways if way[1] <= memory]
        way, size = fitting[0] if fitting else min(ways, key=lambda way: way[1])
        name = f"reverse mode, {_label(way.scan)} scan" if isinstance(way, Reverse) else "forward mode"
        verdict = "of" if fitting else "where nothing fits into"
        return way, f"{name}: about {_shown(size)} {verdict} {_shown(memory)} for {lifetimes} lives of " + (
            f"{learner.steps} steps and {_numbers(learner)} numbers of theta"
        )

    def init(self, learner: Learner, theta: Theta, key: PRNGKey) -> tuple[()]:
        """Nothing persists from one meta-step to the next."""
        return ()

    def estimate(self, learner: Learner, theta: Theta, task: Any, state: Any, key: PRNGKey) -> tuple[Estimate, Any]:
        """Meta-loss and θ-gradient of one lifetime, chosen as if no other were lived beside it.

        Args:
            learner: who lives.
            theta: θ.
            task: what it lives through.
            state: `()`.
            key: decides the fresh weights.

        Returns:
            (estimate, state).
        """
        return self.choose(learner)[0].estimate(learner, theta, task, state, key)

    def _memory(self) -> float:
        if self.memory_gib != "device":
            return self.memory_gib * _GIB
        limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
        return limit * _SHARE if limit else _UNKNOWN_GIB * _GIB


def _ways(learner: Learner) -> Iterator[tuple[Reverse | Forward, float]]:
    """Ways to the gradient and the bytes that each keeps for one lifetime, the fastest first."""
    length, (learner_state, step, seen), segment = learner.steps, _sizes(learner), _segment(learner)
    if jax.default_backend() != "cpu":
        yield Reverse(scan=Plain()), length * step
    if segment:
        yield Reverse(scan=Invertible()), length * seen + (length / segment + segment) * learner_state
    yield Reverse(scan=Remat()), length * learner_state
    for levels in (1, 2):
        yield Reverse(scan=Segmented(levels=levels)), (levels + 1) * length ** (1 / (levels + 1)) * learner_state
    yield Forward(), 2 * (1 + _numbers(learner)) * learner_state


def _sizes(learner: Learner) -> tuple[int, int, int]:
    """Bytes of the carry, of all that a step keeps for its backward pass, and of what its synapses see of neurons."""

    def step(key: PRNGKey) -> tuple[Any, Any, Any]:
        context, learner_state = _born(learner, key)
        _, backward = jax.vjp(
            lambda theta, learner_state: learner.step(theta, context, learner_state, 0),
            learner.theta(key),
            learner_state,
        )
        seen = (
            learner.present(learner.theta(key), context, learner_state, 0)[-1] if isinstance(learner, Lifetime) else ()
        )
        return learner_state, backward, seen

    learner_state, backward, seen = jax.eval_shape(step, _key())
    return _bytes(learner_state), _bytes(backward), _bytes(seen)


def _segment(learner: Learner) -> int:
    """Steps in a segment where weights are rebuilt, 0 where they are not."""
    return segment_length(learner, jax.eval_shape(lambda key: _born(learner, key)[1], _key()))


def _born(learner: Learner, key: PRNGKey) -> tuple[LifetimeContext, LearnerState]:
    return learner.init(key, learner.tasks.sample(key, learner.tasks.split(0).train, 0))


def _key() -> Any:
    return jax.eval_shape(run_key, 0)


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _numbers(learner: Learner) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(learner.theta_scale)))


def _label(scan: Any) -> str:
    name = type(scan).__name__.lower()
    return f"{name} ({scan.levels} levels)" if isinstance(scan, Segmented) and scan.levels > 1 else name


def _shown(size: float) -> str:
    return f"{size / _GIB:.3g} GiB" if size >= _GIB / 10 else f"{size / 2**20:.3g} MiB"
