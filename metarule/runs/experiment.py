"""A whole experiment as one declaration: schema of the config file, API, and assembly."""

from collections.abc import Iterable
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Any

import jax
import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from metarule.analysis.baselines import BaselineName, baselines
from metarule.analysis.comparison import HORIZONS
from metarule.circuits.conditioning import ConditioningCircuit
from metarule.circuits.feedforward import Feedforward
from metarule.circuits.recurrent import Recurrent
from metarule.config.schema import Checked
from metarule.config.toml import ConfigError, check_format, decode, override, read
from metarule.lifetime.learner import InnerLoop, Lifetime
from metarule.meta import AnyOptimizer, Gradient, Sequence
from metarule.prng import run_key
from metarule.rules.mlp import MLP
from metarule.rules.polynomial import Polynomial
from metarule.tasks import AnyTasks, Boolean
from metarule.types import Integer, Split, TaskFamily

# Tables that say what a learned rule is tried on, and how; the others are part of how it was learned.
_FREE = ("tasks", "circuit", "inner_loop", "evaluation")

# Numbers of θ, each of which is told by name; numbers of a network with what its synapses remember, and of all that
# live in one meta-step; lives of these.
_MOST_THETA, _MOST_NETWORK, _MOST_TOGETHER, _MOST_LIVES = 2**16, 2**30, 2**38, 2**24

# Number of the format of run directories.
FORMAT = 2

__all__ = ["FORMAT", "Evaluation", "Experiment", "Run", "read_experiment_file", "read_tree", "to_tree", "with_tasks"]


class Evaluation(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How θ is judged on held-out tasks, while it is learned and at the end.

    Attributes:
        lifetimes: held-out lifetimes at the end.
        points: how often the network is assessed along each of them.
        horizons: multiples of the length of a lifetime after which it is assessed, too, going on in the same way: a
            rule that was learned on lifetimes of one length may fail on longer ones. Empty for none.
        monitor_every: meta-steps between looks at held-out tasks; nothing is decided by what is seen.
        monitor_lifetimes: held-out lifetimes at each look.
        baselines: who the learned rule is compared with at the end, each tuned with as many lifetimes as
            meta-training takes, longer ones counted by their length; none for those that the circuit is made for.
    """

    lifetimes: Annotated[int, Meta(ge=2, le=1_000_000, description="held-out lifetimes at the end")] = 1024
    points: Annotated[int, Meta(ge=1, le=1000, description="assessments along each of them")] = 40
    horizons: Annotated[
        tuple[Annotated[int, Meta(ge=2, le=1000)], ...],
        Meta(description="multiples of the length of a lifetime at which it is assessed, too"),
    ] = HORIZONS
    monitor_every: Annotated[int, Meta(ge=1, description="meta-steps between looks at held-out tasks")] = 50
    monitor_lifetimes: Annotated[int, Meta(ge=1, le=1_000_000, description="held-out lifetimes at each look")] = 128
    baselines: Annotated[
        tuple[BaselineName, ...], Meta(description="who it is compared with; empty for those the circuit is made for")
    ] = ()


class Run(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a run is kept, and how often it comes up for air.

    Attributes:
        directory: where the run is kept; empty for `runs/<config>/<time>-s<seed>`.
        steps_per_call: meta-steps in one jitted call; results do not depend on it.
        checkpoint_every: meta-steps between checkpoints.
    """

    directory: Annotated[str, Meta(description="where the run is kept; default runs/<config>/<time>-s<seed>")] = ""
    steps_per_call: Annotated[int, Meta(ge=1, le=10_000, description="meta-steps in one jitted call")] = 25
    checkpoint_every: Annotated[int, Meta(ge=1, description="meta-steps between checkpoints")] = 100


class Experiment(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that a run needs, one field a component.

    Attributes:
        seed: decides every random number of the run, the split of the tasks included.
        seeds: runs, of seeds seed, seed + 1, …
        rule: Δw = f(local variables; θ).
        circuit: who is wired to whom.
        tasks: what there is to learn.
        inner_loop: length, bounds and loss of a lifetime.
        optimizer: what moves θ.
        evaluation: how θ is judged.
        run: where the run is kept.

    Raises:
        ValueError: components that do not fit together.
    """

    seed: Annotated[int, Meta(ge=0, lt=2**31, description="decides every random number of the run")] = 0
    seeds: Annotated[int, Meta(ge=1, le=10_000, description="runs, of seeds seed, seed + 1, ...")] = 1
    rule: Polynomial | MLP = Polynomial()
    circuit: Feedforward | Recurrent | ConditioningCircuit = Feedforward()
    tasks: AnyTasks = Boolean()
    inner_loop: InnerLoop = InnerLoop()
    optimizer: AnyOptimizer = Gradient()
    evaluation: Evaluation = Evaluation()
    run: Run = Run()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seed + self.seeds > 2**31:
            raise ValueError(f"seeds = {self.seeds}: the last seed would be beyond {2**31 - 1}")
        self.optimizer.phases(self.lifetime)  # refuses components that do not fit together
        self._check_size()
        for name in self.evaluation.baselines:
            try:
                baselines(self.lifetime, (name,))
            except ValueError as error:
                raise ValueError(f"evaluation.baselines: '{name}' cannot be compared with here: {error}") from error

    @property
    def lifetime(self) -> Lifetime:
        """One learner living through one task."""
        return Lifetime(rule=self.rule, circuit=self.circuit, tasks=self.tasks, inner_loop=self.inner_loop)

    def of_seed(self, seed: int) -> "Experiment":
        """The run of one of its seeds."""
        return replace(self, seed=seed, seeds=1)

    @property
    def split(self) -> Split:
        """Training and held-out tasks of its seed."""
        return _split(self.tasks, self.seed)

    def _check_size(self) -> None:
        """Refuse what no machine has the memory for, before any of it is taken."""
        lifetime = self.lifetime
        try:
            hash(lifetime)
        except TypeError:  # numbers that are traced cannot be looked up
            theta, network = _sizes.__wrapped__(lifetime)
        else:
            theta, network = _sizes(lifetime)
        parts = (
            (self.optimizer.first, self.optimizer.then) if isinstance(self.optimizer, Sequence) else (self.optimizer,)
        )
        lifetimes = max(part.spent(1) for part in parts)
        for what, found, most in (
            ("rule: numbers of θ", theta, _MOST_THETA),
            ("circuit: numbers of a network and of what its synapses remember", network, _MOST_NETWORK),
            ("optimizer: lives of a meta-step", lifetimes, _MOST_LIVES),
            ("circuit and optimizer: numbers of all networks of a meta-step", lifetimes * network, _MOST_TOGETHER),
        ):
            if found > most:
                raise ValueError(f"{what} = {found}; allowed: up to {most}")


def read_experiment_file(file: Path, pairs: Iterable[tuple[str, Any]]) -> tuple[Experiment, str]:
    """Read a config file with some fields set.

    Args:
        file: the file.
        pairs: (dotted field, value).

    Returns:
        (the experiment, text of the file).

    Raises:
        ConfigError: naming the file, the field, the value and what is allowed.
    """
    text, tree = read_tree(file)
    tree.pop("devices", None)  # where it is run is no part of what is run: the command line reads it
    try:
        return decode(override(tree, pairs), Experiment), text
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error


def read_tree(file: Path) -> tuple[str, dict[str, Any]]:
    """Read what a config file says of the experiment, as it stands.

    Args:
        file: the file.

    Returns:
        (text of the file, nested tables).

    Raises:
        ConfigError: a file that cannot be read, is not TOML, or of a newer version.
    """
    text, tree = read(file)
    if "format" in tree:  # a config from a run directory
        check_format(f"{file}: this config", tree.pop("format"), FORMAT, "write it anew")
    return text, tree


def to_tree(experiment: Experiment) -> dict[str, Any]:
    """The experiment as nested tables with every default written out, which decode to an equal experiment."""
    return msgspec.to_builtins(experiment, enc_hook=dict)


@partial(jax.jit, static_argnums=0)
def _split(tasks: TaskFamily, seed: Integer) -> Split:
    return tasks.split(seed)


class _Tasks(Struct, frozen=True, kw_only=True):
    """The one table of an experiment that says what output neurons are needed."""

    tasks: AnyTasks = Boolean()


def with_tasks(experiment: Experiment, pairs: Iterable[tuple[str, Any]]) -> Experiment:
    """Other tasks for the rule of an experiment; output neurons follow the tasks unless they are set, too.

    Args:
        experiment: in which the rule is learned.
        pairs: (dotted field, value), of tasks, circuit, inner_loop and evaluation.

    Returns:
        The experiment with these fields set.

    Raises:
        ConfigError: a field that is part of how the rule is learned, a value that is not allowed, or a circuit to which
            θ does not belong.
    """
    for name, _ in pairs:
        if name.split(".")[0] not in _FREE:
            raise ConfigError(f"{name}: it is part of how θ is learned; allowed: fields of {', '.join(_FREE)}")
    other = _with_output(override(to_tree(experiment), pairs), "circuit.output" in dict(pairs))
    found, needed = (_shapes(one.lifetime) for one in (experiment, other))
    if found != needed or experiment.inner_loop.theta != other.inner_loop.theta:
        raise ConfigError(
            f"circuit, inner_loop.theta: θ is of shape {found} where it is learned ({experiment.inner_loop.theta}); "
            f"this circuit needs {needed} ({other.inner_loop.theta})"
        )
    if experiment.lifetime.theta_groups != other.lifetime.theta_groups:
        learned, here = (", ".join(one.lifetime.theta_groups) for one in (experiment, other))
        raise ConfigError(f"circuit: it has the paths {here}; allowed: those for which θ is learned, {learned}")
    return other


def _with_output(tree: dict[str, Any], is_set: bool) -> Experiment:
    """Decode, with the output neurons that the tasks need."""
    if is_set or "output" not in tree["circuit"]:
        return decode(tree, Experiment)
    link = decode({"tasks": tree["tasks"]}, _Tasks).tasks.link
    try:
        return decode(tree | {"circuit": tree["circuit"] | {"output": link}}, Experiment)
    except ConfigError as error:
        if not str(error).startswith("circuit.output"):
            raise
        return decode(tree, Experiment)  # refused, too, but for the neurons that the circuit has


@lru_cache(maxsize=1024)
def _sizes(lifetime: Lifetime) -> tuple[int, int]:
    """Numbers of θ, and of a network with what its synapses remember."""

    def born() -> tuple[Any, Any]:
        key = run_key(0)
        weights, *rest = lifetime.circuit.init(key, lifetime.tasks.inputs, lifetime.tasks.outputs)
        return lifetime.theta(key), (weights, rest, [lifetime.rule.memory(weight) for weight in weights])

    theta, network = (sum(leaf.size for leaf in jax.tree.leaves(tree)) for tree in jax.eval_shape(born))
    return theta, network


def _shapes(lifetime: Lifetime) -> list[tuple[int, ...]]:
    return [leaf.shape for leaf in jax.tree.leaves(jax.eval_shape(lifetime.theta, run_key(0)))]
