"""The exact gradient by whichever method fits into memory."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import jax
from msgspec import Meta

from metarule.config.schema import Checked
from metarule.estimators.forward import Forward
from metarule.estimators.inversion import segment_length
from metarule.estimators.reverse import Reverse
from metarule.lifetime.scans import Invertible, Plain, Remat, Segmented
from metarule.lifetime.unroll import step_at
from metarule.parallel.batching import bytes_of
from metarule.prng import run_key
from metarule.protocols import InvertibleLearner, Learner
from metarule.types import Estimate, PRNGKey, Theta

__all__ = ["Auto"]

_GIB = 2**30
# Memory where the device does not report any, and share of what it reports.
_DEFAULT_GIB, _SHARE = 4.0, 0.5


class Auto(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="auto"):
    """Exact θ-gradient by the fastest method that fits into memory.

    bytes = lifetimes · states that are stored at once · bytes of a state

    The order is: reverse mode with a plain scan (not on CPUs, where recomputing a step is faster than reading it back),
    with inverted steps where possible, with remat, with segments, with segments of segments; then forward mode. If none
    fits, the smallest is used. All are exact, so that results differ by rounding only, but for weights that are
    reconstructed and were clipped by less than rounding (see `Invertible`). Memory is estimated from shapes; compilers
    need somewhat more or less.

    Attributes:
        memory_gib: memory for the lifetimes of a meta-step: a number, or `device` for half of what the device reports,
            and 4 GiB where it reports none.
    """

    memory_gib: Annotated[float, Meta(gt=0)] | Literal["device"] = "device"

    def choose(self, learner: Learner, lifetimes: int = 1) -> tuple[Reverse | Forward, str]:
        """Choose the method.

        Args:
            learner: the learner.
            lifetimes: lifetimes whose gradients are computed at once.

        Returns:
            (estimator, reason in one line).
        """
        memory = self._memory()
        methods = [(method, float(lifetimes * size)) for method, size in _methods(learner)]
        fitting = [method for method in methods if method[1] <= memory]
        method, size = fitting[0] if fitting else min(methods, key=lambda method: method[1])
        name = f"reverse mode, {_label(method.scan)} scan" if isinstance(method, Reverse) else "forward mode"
        verdict = "of" if fitting else "and no method fits into"
        sizes = f"{lifetimes} lifetimes of {learner.steps} steps and {_parameters(learner)} parameters"
        return method, f"{name}: about {_shown(size)} {verdict} {_shown(memory)} for {sizes}"

    def init(self, learner: Learner, theta: Theta, key: PRNGKey) -> Any:
        """State of the chosen method."""
        return self.choose(learner)[0].init(learner, theta, key)

    def estimate(self, learner: Learner, theta: Theta, task: Any, state: Any, key: PRNGKey) -> tuple[Estimate, Any]:
        """Estimate meta-loss and θ-gradient of one lifetime, with memory for this lifetime alone."""
        return self.choose(learner)[0].estimate(learner, theta, task, state, key)

    def _memory(self) -> float:
        if self.memory_gib != "device":
            return self.memory_gib * _GIB
        limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
        return limit * _SHARE if limit else _DEFAULT_GIB * _GIB


def _methods(learner: Learner) -> Iterator[tuple[Reverse | Forward, float]]:
    """Methods and the bytes that each stores for one lifetime, the fastest first."""
    shapes = _shapes(learner)
    length, (state, step, record), segment = learner.steps, map(bytes_of, shapes), segment_length(learner, shapes[0])
    if jax.default_backend() != "cpu":
        yield Reverse(scan=Plain()), length * step
    if segment:
        yield Reverse(scan=Invertible()), length * record + (length / segment + segment) * state
    yield Reverse(scan=Remat()), length * state
    for levels in (1, 2):
        yield Reverse(scan=Segmented(levels=levels)), (levels + 1) * length ** (1 / (levels + 1)) * state
    yield Forward(), 2 * (1 + _parameters(learner)) * state


def _shapes(learner: Learner) -> tuple[Any, Any, Any]:
    """Shapes of the state, of the intermediates of a step, and of the record of a step."""

    def step(key: PRNGKey) -> tuple[Any, Any, Any]:
        theta = learner.init_theta(key)
        context, state = learner.init(theta, key, learner.tasks.sample(key, learner.tasks.split(0).train, 0))
        _, backward = jax.vjp(lambda theta, state: step_at(learner, theta, context, state, 0), theta, state)
        record = ()
        if isinstance(learner, InvertibleLearner):
            record = learner.step_with_record(theta, context, state, learner.stimulus(context, 0))[-1]
        return state, backward, record

    return jax.eval_shape(step, jax.eval_shape(run_key, 0))


def _parameters(learner: Learner) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(learner.theta_scale)))


def _label(scan: Any) -> str:
    name = type(scan).__name__.lower()
    return f"{name} ({scan.levels} levels)" if isinstance(scan, Segmented) and scan.levels > 1 else name


def _shown(size: float) -> str:
    return f"{size / _GIB:.3g} GiB" if size >= _GIB / 10 else f"{size / 2**20:.3g} MiB"
