"""Optimisers and schedules of Optax by name, checked before anything runs."""

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import optax
from immutabledict import immutabledict
from jaxtyping import Array, Float, PyTree

from metarule.config.messages import did_you_mean, first_line
from metarule.config.schema import Checked

__all__ = ["Arguments", "Schedule", "clip_by_norm", "follows_length", "make_schedule", "make_transform", "norm"]

Arguments = Mapping[str, bool | int | float | str]

# Added below the roots of Adam and the like, whose derivative at 0 is infinite otherwise. The root of this is small
# beside their eps of 1e-8, so that steps are those of Optax but for rounding.
_ROOT = 1e-30


class Schedule(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A schedule of Optax for the learning rate.

    Attributes:
        name: schedule of Optax, such as `cosine_decay_schedule`.
        arguments: its arguments; `decay_steps` or `transition_steps` is the length of the run unless given.
    """

    name: str
    arguments: Arguments = immutabledict()


def make_schedule(schedule: Schedule, steps: int) -> optax.Schedule:
    """Make a schedule, step → learning rate, as long as the meta-steps of a run unless its arguments give a length.

    Raises:
        ValueError: no such schedule, or arguments that it does not take.
    """
    factory = _factory(schedule)
    lengths = dict.fromkeys(_lengths(factory), steps)
    made = _call(factory, schedule.name, lengths | dict(schedule.arguments))
    _try_out(schedule.name, made, jax.ShapeDtypeStruct((), "int32"))
    return made


def follows_length(schedule: Schedule) -> bool:
    """True if a schedule is as long as the run, because its arguments give no length."""
    return not set(_lengths(_factory(schedule))) <= set(schedule.arguments)


def make_transform(
    name: str, learning_rate: float | Float[Array, ""] | optax.Schedule, arguments: Arguments
) -> optax.GradientTransformation:
    """Make an optimiser of Optax by its name.

    Steps of optimisers that take `eps_root`, such as Adam, have a finite derivative also where a gradient is exactly 0;
    steps of adafactor, lamb, lars, novograd and radam have none there.

    Args:
        name: such as `adam`.
        learning_rate: a schedule, or a number, which may be traced.
        arguments: other arguments of the optimiser.

    Returns:
        The gradient transformation.

    Raises:
        ValueError: no such optimiser, or arguments that it does not take.
    """
    if "learning_rate" in arguments:
        raise ValueError("arguments.learning_rate: give it as learning_rate, beside arguments")
    factory = _look_up("name", name, "optimiser", _optimizers())
    root = inspect.signature(factory).parameters.get("eps_root")
    smooth = {"eps_root": _ROOT} if root and not root.default else {}
    made = _call(factory, name, {"learning_rate": learning_rate} | smooth | dict(arguments))
    _try_out(name, lambda theta: made.update(theta, made.init(theta), theta), jax.ShapeDtypeStruct((2,), "float32"))
    return made


def norm(tree: PyTree) -> Float[Array, ""]:
    """Norm √Σx² of a pytree, with derivative 0 where all x are 0."""
    squared = optax.tree.norm(tree, squared=True)
    is_zero = squared == 0
    return jnp.where(is_zero, 0, jnp.sqrt(jnp.where(is_zero, 1, squared)))


def clip_by_norm(largest: float) -> optax.GradientTransformation:
    """Clip like `optax.clip_by_global_norm`, x ← x · min(1, largest / ‖x‖), with a finite derivative where x = 0."""

    def update(tree: PyTree, state: Any, params: Any = None) -> tuple[PyTree, Any]:
        length = norm(tree)
        inside, divisor = length < largest, jnp.where(length == 0, 1, length)
        return jax.tree.map(lambda x: jax.lax.select(inside, x, x / divisor.astype(x.dtype) * largest), tree), state

    return optax.GradientTransformation(optax.init_empty_state, update)


def _factory(schedule: Schedule) -> Callable[..., Any]:
    return _look_up("learning_rate.name", schedule.name, "schedule", _schedules())


def _lengths(factory: Callable[..., Any]) -> list[str]:
    """Arguments of a schedule that are its length."""
    return [name for name in inspect.signature(factory).parameters if name in ("decay_steps", "transition_steps")]


def _look_up(field: str, name: str, what: str, known: dict[str, Callable[..., Any]]) -> Callable[..., Any]:
    if name not in known:
        hint = did_you_mean(name, known)
        raise ValueError(f"{field} '{name}' is no {what} of Optax; allowed: {', '.join(sorted(known))}{hint}")
    return known[name]


def _call(factory: Callable[..., Any], name: str, arguments: Mapping[str, Any]) -> Any:
    signature = inspect.signature(factory)
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise ValueError(f"arguments of {name}: {error}; allowed: {', '.join(signature.parameters)}") from error
    try:
        return factory(**arguments)
    except Exception as error:
        raise ValueError(f"arguments of {name}: {first_line(error)}") from error


def _try_out(name: str, made: Callable[[Any], Any], example: jax.ShapeDtypeStruct) -> None:
    try:
        with jax.numpy_dtype_promotion("standard"):  # on which Optax relies
            jax.eval_shape(made, example)
    except Exception as error:
        raise ValueError(f"{name} cannot be used with these arguments: {first_line(error)}") from error


@cache
def _optimizers() -> dict[str, Callable[..., Any]]:
    return {
        name: function
        for name, function in inspect.getmembers(optax, inspect.isfunction)
        if not name.startswith(("_", "scale_by"))
        and next(iter(inspect.signature(function).parameters), "") == "learning_rate"
    }


@cache
def _schedules() -> dict[str, Callable[..., Any]]:
    functions = inspect.getmembers(optax.schedules, inspect.isfunction)
    return {name: function for name, function in functions if name.endswith(("_schedule", "_decay"))}
