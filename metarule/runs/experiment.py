"""Experiments: schema of the config file, and assembly of the components."""

import re
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
from msgspec import Meta
from msgspec.structs import replace

from metarule.analysis.baselines import BaselineName, baselines
from metarule.analysis.comparison import HORIZONS
from metarule.circuits import AnyCircuit, Feedforward
from metarule.config.imports import is_users_own
from metarule.config.schema import Checked
from metarule.config.toml import ConfigError, Tree, beside, check_format, decode, encode, override, read
from metarule.inference.settings import Inference
from metarule.lifetime.inner_loop import InnerLoop
from metarule.lifetime.learner import Lifetime
from metarule.lifetime.trial import try_out
from metarule.meta import AnyOptimizer, Gradient, Population, list_phases
from metarule.meta.phases import OwnOptimizer, lifetimes_of, parts_of, patience_of
from metarule.prng import run_key
from metarule.protocols import Circuit, Recorded, Rule, TaskFamily
from metarule.recordings.family import Recordings
from metarule.rules.lifting import complete
from metarule.rules.mlp import MLP
from metarule.rules.polynomial import Polynomial
from metarule.runs.figures.canvas import FigureFormat
from metarule.runs.following import check_inference, check_online, follow_tasks
from metarule.runs.loggers.names import check_names
from metarule.tasks import AnyTasks, Boolean
from metarule.tasks.base import output_activation
from metarule.tracing import memoised
from metarule.types import Integer, Split

# Tables that may change for a learned rule; θ depends on the others.
FREE_TABLES = ("tasks", "circuit", "inner_loop", "evaluation")
FORMAT = 2  # of run directories

# Largest number of parameters, of numbers of a network, of all networks of a meta-step, and of its lifetimes.
_MAX_THETA, _MAX_NETWORK, _MAX_BATCH, _MAX_LIFETIMES = 2**16, 2**30, 2**38, 2**24

# Fields of tasks that describe the data of a run, by the field that replaces these data.
_REPLACED = {
    "tasks.data": ("sha256",),
    "tasks.dataset": ("sha256", "data", "label"),
    "tasks.files": ("sha256", "outputs"),
}

__all__ = [
    "FORMAT",
    "FREE_TABLES",
    "Evaluation",
    "Experiment",
    "Run",
    "decode_experiment",
    "read_experiment_file",
    "read_tree",
    "set_fields",
    "to_tree",
    "with_tasks",
]


class Evaluation(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Evaluation of θ on held-out tasks, during meta-training and at the end.

    Attributes:
        lifetimes: held-out lifetimes at the end.
        points: evaluations along each lifetime.
        horizons: multiples of the length of a lifetime at which the network is evaluated as well, because a rule that
            was learned on lifetimes of one length may fail on longer ones. Empty for none.
        monitor_every: meta-steps between evaluations on held-out tasks, which do not affect meta-training, and on
            validation tasks, if there are any.
        monitor_lifetimes: held-out lifetimes in each of these evaluations.
        theta: θ that is reported: the `best` on validation tasks, the `last`, or `auto`, which is the best where the
            optimiser has patience. Validation tasks are a fifth of the training tasks, at most 256, and θ does not
            learn from them.
        baselines: baselines at the end, each tuned with as many lifetimes as meta-training takes, longer ones counted
            by their length; empty for those of circuit and tasks. `reward_hebb` needs rewards, from tasks in a closed
            loop; `reinforce`, `q_learning` and `ideal_observer` also choices.
    """

    lifetimes: Annotated[int, Meta(ge=2, le=1_000_000)] = 1024
    points: Annotated[int, Meta(ge=1, le=1000)] = 40
    horizons: tuple[Annotated[int, Meta(ge=2, le=1000)], ...] = HORIZONS
    monitor_every: Annotated[int, Meta(ge=1)] = 50
    monitor_lifetimes: Annotated[int, Meta(ge=1, le=1_000_000)] = 128
    theta: Literal["auto", "best", "last"] = "auto"
    baselines: tuple[BaselineName, ...] = ()


class Run(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Output directory, meta-steps per jitted call, loggers, and formats of figures.

    Attributes:
        directory: directory of the run; empty for `runs/<config>/<time>-s<seed>`.
        steps_per_call: meta-steps in one jitted call; results do not depend on it.
        checkpoint_every: meta-steps between checkpoints.
        loggers: any of `csv`, `tensorboard`, `wandb` and `my_module:MyLogger`, which write the metrics beside
            `metrics.jsonl`; sweeps and structure searches have none.
        figure_formats: formats of the figures, also of commands that use the run later: any of `png`, `svg` and `pdf`.
            A sweep has those of its base config.

    Raises:
        ValueError: an unknown logger.
    """

    directory: str = ""
    steps_per_call: Annotated[int, Meta(ge=1, le=10_000)] = 25
    checkpoint_every: Annotated[int, Meta(ge=1)] = 100
    loggers: tuple[str, ...] = ()
    figure_formats: Annotated[tuple[FigureFormat, ...], Meta(min_length=1)] = ("png",)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_names(self.loggers)


class Experiment(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings of a run, one field a component.

    Attributes:
        seed: seed of all random numbers of the run, the split of the tasks included.
        seeds: number of runs, with seeds seed, seed + 1, …
        rule: Δw = f(local variables; θ).
        circuit: neurons and their projections.
        tasks: the task family.
        inner_loop: length, bounds and loss of a lifetime.
        optimizer: the meta-optimiser.
        evaluation: evaluation of θ.
        inference: report on a rule that is inferred from recordings.
        run: output directory, loggers and formats of figures.

    Raises:
        ValueError: components that do not fit together.
    """

    seed: Annotated[int, Meta(ge=0, lt=2**31)] = 0
    seeds: Annotated[int, Meta(ge=1, le=10_000)] = 1
    rule: Annotated[Polynomial | MLP, Meta(extra={"protocol": Rule})] = Polynomial()
    circuit: Annotated[AnyCircuit, Meta(extra={"protocol": Circuit})] = Feedforward()
    tasks: Annotated[AnyTasks | Recordings, Meta(extra={"protocol": TaskFamily})] = Boolean()
    inner_loop: InnerLoop = InnerLoop()
    optimizer: Annotated[AnyOptimizer, Meta(extra={"protocol": OwnOptimizer})] = Gradient()
    evaluation: Evaluation = Evaluation()
    inference: Inference = Inference()
    run: Run = Run()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seed + self.seeds > 2**31:
            raise ValueError(f"seeds = {self.seeds}: the last seed would be beyond {2**31 - 1}")
        list_phases(self.optimizer, self.lifetime)  # raises where components do not fit together
        check_online(self)
        check_inference(self)
        self._check_size()
        if any(is_users_own(type(part)) for part in (self.rule, self.circuit, self.tasks)):
            try_out(self.lifetime)
        if self.evaluation.theta == "best" and not isinstance(parts_of(self.optimizer)[-1], Gradient | Population):
            kind = type(self.optimizer).__name__
            raise ValueError(f"evaluation.theta = 'best': {kind} has no validation tasks; allowed: auto, last")
        for name in self.evaluation.baselines:
            try:
                baselines(self.lifetime, (name,))
            except ValueError as error:
                raise ValueError(f"evaluation.baselines: '{name}' cannot be compared with here: {error}") from error

    @property
    def lifetime(self) -> Lifetime:
        """The learner: rule, circuit, tasks and inner loop."""
        return Lifetime(rule=self.rule, circuit=self.circuit, tasks=self.tasks, inner_loop=self.inner_loop)

    @property
    def all_seeds(self) -> range:
        """Seed of each run."""
        return range(self.seed, self.seed + self.seeds)

    def of_seed(self, seed: int) -> "Experiment":
        """The same experiment with a single seed."""
        return replace(self, seed=seed, seeds=1)

    @property
    def is_validated(self) -> bool:
        """True if validation tasks are split off the training tasks."""
        return patience_of(self.optimizer) > 0 or self.evaluation.theta == "best"

    @property
    def split(self) -> Split:
        """Training and held-out tasks of the seed."""
        # Recordings would be constants of a compiled program.
        return self.tasks.split(self.seed) if isinstance(self.tasks, Recorded) else _split(self.tasks, self.seed)

    def _check_size(self) -> None:
        """Refuse a run that exceeds the memory of any machine, before any of it is allocated."""
        theta, network = _sizes(self.lifetime)
        lifetimes = max(lifetimes_of(part, 1) for part in parts_of(self.optimizer))
        sizes = (
            ("rule: parameters", theta, _MAX_THETA),
            ("circuit: weights, wiring, state and memory of a network, as numbers", network, _MAX_NETWORK),
            ("optimizer: lifetimes of a meta-step", lifetimes, _MAX_LIFETIMES),
            ("circuit and optimizer: the same for all networks of a meta-step", lifetimes * network, _MAX_BATCH),
        )
        for what, size, largest in sizes:
            if size > largest:
                raise ValueError(f"{what} = {size}; allowed: up to {largest}")


def decode_experiment(tree: Tree) -> Experiment:
    """Decode an experiment; what is not set follows the tasks, as `follow_tasks` says.

    Raises:
        ConfigError: naming the field, the value and what is allowed.
    """
    followed = follow_tasks(tree)
    try:
        return decode(followed, Experiment)
    except ConfigError as error:
        if followed is tree or not str(error).startswith("circuit.output"):
            raise
    # A circuit whose output is no field, or has other values.
    followed = {name: table for name, table in followed.items() if name != "circuit"}
    return decode(followed | {"circuit": tree["circuit"]} if "circuit" in tree else followed, Experiment)


def read_experiment_file(file: Path, pairs: Sequence[tuple[str, Any]]) -> tuple[Experiment, str]:
    """Read a config file with some fields set, as (dotted field, value) pairs.

    Returns:
        (the experiment, text of the file).

    Raises:
        ConfigError: naming the file or that the field was set, the field, the value and what is allowed.
    """
    text, tree = read_tree(file)
    tree.pop("devices", None)  # read by the command line; results do not depend on it
    try:
        return decode_experiment(set_fields(tree, pairs)), text
    except ConfigError as error:
        is_set = any(re.match(rf"{re.escape(name)}\b", str(error)) for name, _ in pairs)
        raise ConfigError(f"--{error}" if is_set else f"{file}: {error}") from error


def read_tree(file: Path) -> tuple[str, dict[str, Any]]:
    """Read the text and the nested tables of a config file, without decoding them; paths are relative to the file.

    Raises:
        ConfigError: a file that cannot be read, is not TOML, or of another format.
    """
    text, tree = read(file)
    if "format" in tree:  # a config from a run directory
        check_format(f"{file}: this config", tree.pop("format"), FORMAT, "write it anew")
    if isinstance(tasks := tree.get("tasks"), dict):
        tree["tasks"] = _located(file, tasks)
    return text, tree


def _located(file: Path, tasks: dict[str, Any]) -> dict[str, Any]:
    """Table of tasks, and of the families in it, whose paths are relative to a file, with absolute paths."""
    paths: dict[str, Any] = {name: beside(file, tasks[name]) for name in ("data", "files") if name in tasks}
    if isinstance(families := tasks.get("families"), list):
        paths["families"] = [_located(file, one) if isinstance(one, dict) else one for one in families]
    return tasks | paths


def set_fields(tree: Tree, pairs: Iterable[tuple[str, Any]]) -> Tree:
    """Set fields of an experiment as `override` does; other data replace all that described the data before.

    A new `tasks.data` removes the hash of the file before it, and a new `tasks.dataset` the file and its label. Of both
    the later one is used.

    Args:
        tree: nested tables of the experiment; it is not changed.
        pairs: (dotted field, value).

    Raises:
        ConfigError: as of `override`.
    """
    given: list[tuple[str, Any]] = []
    for name, value in pairs:
        removed = _REPLACED.get(name, ())
        given = [pair for pair in given if pair[0] not in {f"tasks.{field}" for field in removed}]
        given.append((name, value))
        if removed and isinstance(tasks := tree.get("tasks"), dict):
            tree = tree | {"tasks": {field: old for field, old in tasks.items() if field not in removed}}
    return override(tree, given)


def to_tree(experiment: Experiment) -> dict[str, Any]:
    """Convert an experiment to nested tables with all defaults, which decode to an equal experiment."""
    return encode(experiment)


@partial(jax.jit, static_argnums=0)
def _split(tasks: TaskFamily, seed: Integer) -> Split:
    return tasks.split(seed)


def with_tasks(experiment: Experiment, pairs: Iterable[tuple[str, Any]]) -> Experiment:
    """Set other tasks for a learned rule.

    Unless they are set, the output activation follows the tasks where it did before, and no baselines are named.

    Args:
        experiment: in which the rule was learned.
        pairs: (dotted field, value), of tasks, circuit, inner_loop and evaluation.

    Raises:
        ConfigError: a field on which θ depends, a value that is not allowed, or a circuit that θ does not fit.
    """
    for name, _ in pairs:
        if name.split(".")[0] not in FREE_TABLES:
            raise ConfigError(f"{name}: θ depends on it; allowed: fields of {', '.join(FREE_TABLES)}")
    tree = to_tree(experiment)
    open_fields = [("evaluation", "baselines")]  # all that were tuned, as far as they fit
    if output_activation(experiment.tasks):
        open_fields.append(("circuit", "output"))
    if "tasks.files" in dict(pairs):  # as long as the longest recording
        open_fields.append(("inner_loop", "steps"))
    for table, field in open_fields:
        tree[table] = {name: value for name, value in tree[table].items() if name != field}
    other = decode_experiment(set_fields(tree, pairs))
    learned, needed = _shapes(experiment.lifetime), _shapes(other.lifetime)
    if learned != needed or experiment.inner_loop.theta != other.inner_loop.theta:
        shape = f"θ was learned in shape {learned} ({experiment.inner_loop.theta})"
        needs = f"this circuit needs {needed} ({other.inner_loop.theta})"
        raise ConfigError(f"circuit, inner_loop.theta: {shape}; {needs}")
    if experiment.lifetime.theta_groups != other.lifetime.theta_groups:
        paths, allowed = (", ".join(each.lifetime.theta_groups) for each in (other, experiment))
        raise ConfigError(f"circuit: it has the paths {paths}; allowed: those for which θ was learned, {allowed}")
    return other


@memoised
def _sizes(lifetime: Lifetime) -> tuple[int, int]:
    """Number of parameters, and of the numbers of a network with the memory of its synapses."""

    def initial() -> tuple[Any, Any]:
        key = run_key(0)
        weights, *rest = lifetime.circuit.init(key, lifetime.tasks.inputs, lifetime.tasks.outputs)
        memory = [complete(lifetime.rule).memory(weight) for weight in weights]
        return lifetime.init_theta(key), (weights, rest, memory)

    theta, network = (sum(leaf.size for leaf in jax.tree.leaves(tree)) for tree in jax.eval_shape(initial))
    return theta, network


def _shapes(lifetime: Lifetime) -> list[tuple[int, ...]]:
    return [leaf.shape for leaf in jax.tree.leaves(jax.eval_shape(lifetime.init_theta, run_key(0)))]
