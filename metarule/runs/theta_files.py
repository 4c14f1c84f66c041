"""θ on disk: `theta.npz`, one array a leaf, and `theta.json`, the meaning of its numbers."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metarule.config.arrays import declared_arrays
from metarule.config.imports import import_path
from metarule.config.schema import leaves
from metarule.config.toml import ConfigError, check_file, check_format
from metarule.lifetime.initial import INITIAL, learns_initial
from metarule.lifetime.learner import Lifetime
from metarule.prng import run_key
from metarule.rules.mlp import MLP
from metarule.rules.polynomial import Polynomial
from metarule.runs.files import plain, read_json, whole_file, write_json
from metarule.runs.stopping import Diverged
from metarule.types import Theta

__all__ = ["BEST", "GIVEN", "THETA", "THETA_FORMAT", "given_files", "given_theta"]
__all__ += ["difference", "flat_parameters", "load_theta", "save_theta", "theta_meaning", "write_theta"]

THETA = "theta.npz"
# Names of the files of the best θ so far on validation tasks, and of one with which a run was told to begin.
BEST, GIVEN = "best", "given"
THETA_FORMAT = 3
# Bytes that a leaf takes in its archive besides its numbers.
_LEAF_OVERHEAD = 2**10


def write_theta(path: Path, lifetime: Lifetime, theta: Theta) -> None:
    """Write θ into its run directory, with the meaning and the equation of its numbers."""
    described = {"equation": lifetime.equation(theta), "theta": flat_parameters(lifetime, theta)}
    save_theta(path, theta, theta_meaning(lifetime) | described)


def theta_meaning(lifetime: Lifetime) -> dict[str, Any]:
    """Meaning of θ: the rule, and the names of its parameters in order; it is checked when a θ file is read."""
    rule = lifetime.rule
    meaning = rule.meaning if isinstance(rule, Polynomial | MLP) else {"kind": import_path(type(rule))}
    shapes = jax.eval_shape(lifetime.init_theta, run_key(0))
    names = flat_parameters(lifetime, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes))
    described = {"rule": meaning, "names": list(names)}
    if learns_initial(lifetime.circuit):
        described["initial"] = {name: list(leaf.shape) for name, leaf in shapes[INITIAL].items()}
    return described


def flat_parameters(lifetime: Lifetime, theta: Theta) -> dict[str, Any]:
    """Named parameters in one level, as in `{"projection 1: pre*post": …}`."""
    flat: dict[str, Any] = {}
    for name, value in lifetime.describe(theta).items():
        is_group = isinstance(value, Mapping)
        flat |= {f"{name}: {term}": number for term, number in value.items()} if is_group else {name: value}
    return flat


def save_theta(directory: Path, theta: Theta, meaning: Mapping[str, Any], name: str = "theta") -> None:
    """Write θ as plain arrays, and their meaning beside them.

    Args:
        directory: of the run.
        theta: θ; leaf number i becomes the array `theta_i`.
        meaning: written to the JSON file, with the number of its format.
        name: of the two files.

    Raises:
        OSError: a directory that cannot be written.
        Diverged: a θ that is not finite.
    """
    file = directory / f"{name}.npz"
    arrays: dict[str, Any] = {f"theta_{number}": np.asarray(leaf) for number, leaf in enumerate(jax.tree.leaves(theta))}
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise Diverged(f"θ is not finite; it is not written to {file}")
    with whole_file(file) as opened:
        np.savez(opened, **arrays)
    write_json(directory / f"{name}.json", {"format": THETA_FORMAT} | dict(meaning))


def load_theta(directory: Path, like: Theta, meaning: Mapping[str, Any], name: str = "theta") -> Theta:
    """Read θ.

    Args:
        directory: of the run.
        like: a θ of the same rule, or its shapes.
        meaning: values that the JSON file must hold.
        name: of the two files.

    Raises:
        ConfigError: a file that is missing, damaged, of another format or rule, or not finite.
    """
    file = directory / f"{name}.npz"
    _check_meaning(file.with_suffix(".json"), meaning)
    templates, treedef = jax.tree.flatten(like)
    try:
        arrays = _read_arrays(file, [leaf.shape for leaf in templates])
    except ConfigError:
        raise
    except Exception as error:  # damaged archives raise many kinds
        raise ConfigError(f"{file}: no θ can be read from it: {error}") from error
    if not all(np.isfinite(array).all() for array in arrays):
        raise ConfigError(f"{file}: it holds numbers that are not finite")
    return jax.tree.unflatten(treedef, [jnp.asarray(array) for array in arrays])


def given_files(run: Path) -> dict[str, bytes]:
    """Files of the θ with which a run was told to begin, by name; none if it begins with an initial one."""
    files = [run / f"{GIVEN}{ending}" for ending in (".npz", ".json")]
    return {file.name: file.read_bytes() for file in files if file.exists()}


def given_theta(directory: Path, lifetime: Lifetime) -> Theta | None:
    """θ with which a run was told to begin; None if it begins with an initial one."""
    if not (directory / f"{GIVEN}.npz").exists():
        return None
    return load_theta(directory, lifetime.theta_scale(), theta_meaning(lifetime), GIVEN)


def _check_meaning(file: Path, meaning: Mapping[str, Any]) -> None:
    """Refuse a θ file of another format, or of another rule."""
    content = read_json(file)
    if content is None:
        raise ConfigError(f"{file}: No such file or directory")
    check_format(f"{file}: this θ", content.get("format"), THETA_FORMAT, "train again")
    if found := difference({part: content.get(part) for part in meaning}, meaning):
        raise ConfigError(f"{file}: this θ is of another rule: {found}")


def difference(written: Mapping[str, Any], needed: Mapping[str, Any]) -> str:
    """First difference between the meaning of a θ and the one that a rule needs, in words; empty if they are equal."""
    found, expected = dict(leaves(plain(written))), dict(leaves(plain(needed)))
    for field in expected | found:
        if found.get(field) != expected.get(field):
            value, other = (repr(values[field]) if field in values else "nothing" for values in (found, expected))
            return f"{field} is {value} there; the rule needs {other}"
    return ""


def _read_arrays(file: Path, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """Arrays of a θ file; their shapes are checked before memory is taken for them."""
    check_file(file, sum(8 * math.prod(shape) + _LEAF_OVERHEAD for shape in shapes) + _LEAF_OVERHEAD)
    declared = declared_arrays(file)
    names = sorted(declared, key=lambda name: int(name.removeprefix("theta_")))
    if (found := [declared[name][0] for name in names]) != list(shapes):
        raise ConfigError(f"{file}: arrays of shape {found}; the rule needs {list(shapes)}")
    for name, (_, kind) in declared.items():
        if kind not in (np.float32, np.float64):
            raise ValueError(f"{name} holds {kind}")
    with np.load(file, allow_pickle=False) as arrays:
        return [arrays[name] for name in names]
