"""Settings of an experiment that follow its tasks unless they are set, and those that tasks do not allow."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta
from msgspec.structs import replace

from metarule.circuits import AnyCircuit, Feedforward, Recurrent
from metarule.config.schema import Checked
from metarule.config.toml import Tree, decode
from metarule.inference.settings import Inference
from metarule.meta import GaussNewton
from metarule.protocols import Circuit, ClosedLoop, Recorded, TaskFamily
from metarule.recordings.family import Recordings
from metarule.rules.polynomial import Polynomial
from metarule.tasks import AnyTasks, Boolean
from metarule.tasks.base import output_activation

if TYPE_CHECKING:
    from metarule.runs.experiment import Experiment

__all__ = ["check_inference", "check_online", "follow_tasks", "lifetime_of"]


# Bound that no weight of a network that resembles an animal comes near.
_UNBOUNDED = 1e9


class _Parts(Checked, frozen=True, kw_only=True):
    circuit: Annotated[AnyCircuit, Meta(extra={"protocol": Circuit})] = Feedforward()
    tasks: Annotated[AnyTasks | Recordings, Meta(extra={"protocol": TaskFamily})] = Boolean()


def follow_tasks(tree: Tree) -> Tree:
    """Nested tables of an experiment, completed by what follows its tasks.

    The output activation is that of the loss. In a closed loop the whole meta-loss is along the way. Lifetimes on
    recordings are as long as the longest one, their weights are not bounded in practice, all recurrent synapses exist,
    their whole meta-loss is along the way, and θ is fitted by Gauss–Newton, that of an MLP by gradient descent.

    Raises:
        ConfigError: a circuit or tasks that cannot be decoded.
    """
    tables = [tree.get(name, {}) for name in ("circuit", "tasks", "inner_loop", "optimizer", "rule")]
    if not all(isinstance(table, Mapping) for table in tables):
        return tree
    circuit, _, inner_loop, optimizer, rule = tables
    parts = decode({name: tree[name] for name in ("circuit", "tasks") if name in tree}, _Parts)
    followed, needed = dict(tree), output_activation(parts.tasks)
    output = getattr(parts.circuit, "output", None)
    if "output" not in circuit and needed and output not in (None, needed):
        followed["circuit"] = {**circuit, "output": needed}
    if isinstance(parts.tasks, ClosedLoop):
        followed["inner_loop"] = {"online_loss_weight": 1.0} | dict(inner_loop)
    if isinstance(parts.tasks, Recordings):
        followed["inner_loop"] = lifetime_of(parts.tasks) | dict(inner_loop)
        if isinstance(parts.circuit, Recurrent):  # those that exist were recorded, or are fitted
            followed["circuit"] = {"density": 1.0} | dict(followed["circuit"])
        if rule.get("kind") != "mlp":
            followed["optimizer"] = {"kind": "gauss_newton"} | dict(optimizer)
    return followed if followed != tree else tree


def lifetime_of(recordings: Recordings) -> dict[str, Any]:
    """Settings of the inner loop that follow recordings."""
    return {"steps": recordings.longest, "weight_bound": _UNBOUNDED, "online_loss_weight": 1.0}


def check_online(experiment: "Experiment") -> None:
    """Refuse a final loss where tasks have none: with recordings and in a closed loop every step counts.

    Raises:
        ValueError: naming the field, its value and what is allowed.
    """
    weight, tasks = experiment.inner_loop.online_loss_weight, experiment.tasks
    if isinstance(tasks, Recorded | ClosedLoop) and weight != 1:
        kind = "recordings" if isinstance(tasks, Recorded) else "tasks in a closed loop"
        raise ValueError(f"inner_loop.online_loss_weight = {weight:g}: allowed with {kind}: 1, as every step counts")


def check_inference(experiment: "Experiment") -> None:
    """Refuse settings that do nothing, or nothing good, with recordings or without them.

    Raises:
        ValueError: naming the field, its value and what is allowed.
    """
    tasks = experiment.tasks
    if not isinstance(tasks, Recorded):
        if experiment.inference != Inference():
            raise ValueError("inference: these tasks are no recordings; allowed: with tasks.kind = 'recordings'")
        return
    for name in experiment.inference.models:
        try:
            replace(experiment.lifetime, rule=Polynomial(terms=(name,)))
        except ValueError as error:
            raise ValueError(f"inference.models: '{name}' cannot be compared with here: {error}") from error
    inner_loop, evaluation = experiment.inner_loop, experiment.evaluation
    if experiment.seeds > 1:
        raise ValueError(f"seeds = {experiment.seeds}: allowed with recordings: 1")
    if inner_loop.bfloat16:
        raise ValueError("inner_loop.bfloat16 = true: allowed with recordings: false")
    density = getattr(experiment.circuit, "density", 1.0)
    if density < 1:
        raise ValueError(f"circuit.density = {density:g}: it removes random synapses; allowed with recordings: 1")
    if isinstance(tasks, Recordings) and inner_loop.steps > tasks.longest:
        raise ValueError(f"inner_loop.steps = {inner_loop.steps}: the longest recording has {tasks.longest} steps")
    if replace(evaluation, monitor_every=1) != type(evaluation)(monitor_every=1):
        raise ValueError("evaluation: recordings are evaluated as [inference] says; allowed: the defaults")
    if isinstance(tasks, Recordings) and not isinstance(experiment.optimizer, GaussNewton):
        _check_known(tasks)


def _check_known(tasks: Recordings) -> None:
    """Refuse unknowns besides θ, which only Gauss–Newton fits."""
    recorded = tasks.animals[0].weights or tasks.animals[0].initial_weights
    open_fields = {
        "tasks.initial": tasks.initial == "fitted" or (tasks.initial == "auto" and not recorded),
        "tasks.readout": tasks.readout == "fitted",
        "tasks.reward_decay": tasks.reward_decay == "fitted",
    }
    for field, is_open in open_fields.items():
        if is_open:
            raise ValueError(f"{field}: it is to be fitted, which takes optimizer.kind = 'gauss_newton'")
