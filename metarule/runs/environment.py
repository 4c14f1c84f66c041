"""What a result may depend on besides its config: versions, device and precision of the processes that made it."""

import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from metarule.config.toml import ConfigError

__all__ = ["check_precision", "environment", "precision", "with_this"]

_PACKAGES = (
    "metarule",
    "jax",
    "jaxlib",
    "optax",
    "chex",
    "msgspec",
    "orbax-checkpoint",
    "numpy",
    "scipy",
    "scikit-learn",
)
# Where those of later processes are, beside that of the first.
_LATER = "resumed"


def environment() -> dict[str, Any]:
    """What a result may depend on besides its config: command, versions, device and precision."""
    device = jax.devices()[0]
    return {
        "command": sys.argv,
        "python": sys.version.split()[0],
        "platform": sys.platform,
        "packages": {name: version(name) for name in _PACKAGES},
        "device": {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count()},
        "processes": jax.process_count(),
        "precision": precision(),
    }


def with_this(known: Mapping[str, Any] | None) -> dict[str, Any]:
    """Environments of all processes that a result took, this one included.

    Args:
        known: those of the processes before: the first, and in `resumed` later ones; None where there were none.

    Returns:
        The same with this one, unless it is among them, commands aside.
    """
    now = environment()
    if not known:
        return now
    later = known[_LATER] if isinstance(known.get(_LATER), list) else []
    first = {name: value for name, value in known.items() if name != _LATER}
    if any(isinstance(one, dict) and now | {"command": None} == one | {"command": None} for one in (first, *later)):
        return dict(known)
    return {**known, _LATER: [*later, now]}


def precision() -> str:
    """Type of the numbers that are computed with: float32, or float64 where JAX is set so."""
    return str(jax.numpy.result_type(float))


def check_precision(path: Path, recorded: object) -> None:
    """Refuse to go on in another precision: the numbers that are drawn differ, and with them tasks and weights.

    Args:
        path: what was begun.
        recorded: its precision; None where it says nothing, as before it was recorded: then it is float32.

    Raises:
        ConfigError: saying what to set.
    """
    begun, here = recorded or "float32", precision()
    if begun != here:
        says = f"{path}: it was begun in {begun}, and JAX is set to {here} here"
        raise ConfigError(f"{says}; set JAX_ENABLE_X64={int(begun == 'float64')}")
