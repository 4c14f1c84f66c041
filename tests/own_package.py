"""A user's package of components, which tests write to a folder."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAME = "own_synapses"
SOURCE = '''
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp
import msgspec
import optax

from metarule.types import CircuitStep, Estimate, Info, Split, Stimulus, Synapse


@dataclass(frozen=True)
class Decaying:
    """Delta rule with decay.

    Attributes:
        rate: initial learning rate.
        signs: factors of the rate.
    """

    rate: Annotated[float, msgspec.Meta(gt=0)] = 0.3
    signs: tuple[float, ...] = (1.0,)

    def __post_init__(self):
        if 0.0 in self.signs:
            raise ValueError(f"signs = {list(self.signs)}: allowed: numbers that are not 0")

    def init(self, key):
        return {"rate": jnp.array(self.rate) * self.signs[0], "decay": jnp.zeros(())}

    def delta(self, theta, memory, synapse):
        return theta["rate"] * synapse.pre * synapse.modulator - theta["decay"] * synapse.weight, memory


class Readout(msgspec.Struct, frozen=True):
    """One layer.

    Attributes:
        scale: of the initial weights.
        output: activation.
    """

    scale: float = 0.1
    output: Literal["sigmoid"] = "sigmoid"

    def init(self, key, inputs, outputs):
        return (self.scale * jax.random.normal(key, (inputs, outputs)),), (), ()

    def step(self, weights, wiring, state, stimulus):
        potential = stimulus.input @ weights[0]
        output = jax.nn.sigmoid(potential)
        synapse = Synapse(stimulus.input, output, potential, weights[0], modulator=stimulus.target - output)
        return CircuitStep(state, output, (synapse,))


@dataclass(frozen=True)
class CopyOneInput:
    """The sign of one of some inputs.

    Attributes:
        inputs: number of inputs.
    """

    inputs: int = 4
    outputs = 1

    def split(self, seed):
        order = jax.random.permutation(jax.random.key(seed), self.inputs)
        return Split(train=order[:2], test=order[2:])

    def sample(self, key, pool, index):
        return pool[index % pool.size]

    def task_id(self, pool, index):
        return pool[index % pool.size]

    def stimulus(self, task, t, key):
        pattern = jax.random.rademacher(key, (self.inputs,), float)
        return Stimulus(pattern, (pattern[task, None] + 1) / 2)

    def examples(self, task):
        patterns = jnp.sign(jax.random.normal(jax.random.key(0), (16, self.inputs)))
        return Stimulus(patterns, (patterns[:, task, None] + 1) / 2)

    def loss(self, output, target):
        return jnp.sum((output - target) ** 2)

    def metrics(self, output, target):
        return {"accuracy": jnp.mean(((output > 0.5) == (target > 0.5)).astype(output.dtype))}


@dataclass(frozen=True)
class Half:
    """Half of the exact gradient."""

    def init(self, learner, theta, key):
        return ()

    def estimate(self, learner, theta, task, state, key):
        from metarule.estimators import Reverse

        estimate, state = Reverse().estimate(learner, theta, task, state, key)
        return estimate._replace(gradient=jax.tree.map(lambda leaf: leaf / 2, estimate.gradient)), state


class State(NamedTuple):
    step: jax.Array
    theta: dict


@dataclass(frozen=True)
class Wander:
    """Random steps."""

    steps: int = 4
    batch_size: int = 2

    def init(self, learner, pool, theta, key):
        return State(jnp.zeros((), int), theta)

    def step(self, learner, pool, state, key):
        key = jax.random.fold_in(key, state.step)
        theta = jax.tree.map(lambda leaf: leaf + 0.01 * jax.random.normal(key, leaf.shape), state.theta)
        none = jnp.zeros((), int)
        info = Info(jnp.zeros(()), {}, {}, jnp.asarray(self.batch_size), none, none, jnp.zeros((), bool), theta)
        return State(state.step + 1, theta), info

    def theta(self, state):
        return state.theta


class LastLoss:
    def open(self, directory, settings, earlier):
        self.file = directory / "last-loss.txt"

    def log(self, row):
        self.file.write_text(str(row["loss"]))

    def close(self, results):
        assert results["held_out.learned.mean"] <= 1


@dataclass(frozen=True)
class Broken(Decaying):
    def delta(self, theta, memory, synapse):
        return theta["slope"] * synapse.pre, memory


@dataclass(frozen=True)
class Unexamined(CopyOneInput):
    examples = metrics = None


@dataclass(frozen=True)
class Unscored(CopyOneInput):
    def start(self, task): ...
    def react(self, task, state, output, key): ...


@dataclass(frozen=True)
class Keyless(Unscored):
    def sense(self, task, state, stimulus): ...
    def react(self, task, state, output): ...
    def scores(self, task, state): ...


@dataclass(frozen=True)
class Untargeted(CopyOneInput):
    def metrics(self, output): ...


@dataclass
class Thawed(Decaying.__mro__[-1]):
    def init(self, key): ...
    def delta(self, theta, memory, synapse): ...
'''
RULE, CIRCUIT, TASKS = f"{NAME}.parts:Decaying", f"{NAME}.parts:Readout", f"{NAME}.parts:CopyOneInput"


def write_package(folder: Path, source: str = SOURCE) -> Path:
    """Write the package, whose components are in its module `parts`."""
    package = folder / NAME
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").write_text("from .parts import Decaying as Decaying\n")
    (package / "parts.py").write_text(source)
    return folder


@contextmanager
def package_on_path(folder: Path) -> Iterator[Path]:
    """Put the package on Python's path, and forget its modules afterwards."""
    write_package(folder)
    sys.path.insert(0, str(folder))
    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), before])
    try:
        yield folder
    finally:
        sys.path.remove(str(folder))
        os.environ["PYTHONPATH"] = before
        forget_package()


def forget_package() -> None:
    """Make the next import of the package run its code."""
    for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
        del sys.modules[name]
