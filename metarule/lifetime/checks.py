"""Checks that the parts of a learner fit together."""

from typing import Any, get_args

from metarule.circuits.base import is_sampled, network_shapes, offered_variables
from metarule.circuits.parts import OutputActivation
from metarule.config.imports import is_users_own
from metarule.lifetime.initial import learns_initial
from metarule.protocols import Activated, InitialWeights, Recorded, Sized
from metarule.rules.lifting import complete, has_parameters, local_variables
from metarule.tasks.base import check_loop, min_steps, output_activation

__all__ = ["check_parts"]


def check_parts(lifetime: Any) -> None:
    """Refuse a learner whose rule, circuit, tasks and inner loop do not fit together.

    Raises:
        ValueError: naming the part, its value and what is allowed.
    """
    rule, circuit, tasks = lifetime.rule, lifetime.circuit, lifetime.tasks
    complete(rule)
    needed, given = (tasks.inputs, tasks.outputs), circuit.sizes if isinstance(circuit, Sized) else None
    if given not in (None, needed):
        raise ValueError(
            f"circuit: it has {given[0]} input and {given[1]} output neurons; these tasks have "
            f"{needed[0]} inputs and {needed[1]} outputs"
        )
    check_loop(tasks)
    activation = output_activation(tasks)
    if isinstance(circuit, Activated) and activation and circuit.output != activation:
        known = get_args(OutputActivation)
        if is_users_own(type(tasks)) and activation not in known and circuit.output in known:
            raise ValueError(f"tasks: their activation is '{activation}'; allowed here: {', '.join(known)}")
        raise ValueError(f"circuit.output = '{circuit.output}': the loss of these tasks needs '{activation}'")
    if learns_initial(circuit) and isinstance(tasks, InitialWeights):
        raise ValueError("circuit.initial = 'learned': these tasks give the initial weights; allowed: random")
    if not learns_initial(circuit) and not has_parameters(rule):
        raise ValueError("rule: no parameter is left; allowed: at least one, or circuit.initial = 'learned'")
    offered, read = offered_variables(circuit, *needed), local_variables(rule)
    if missing := [name for name in read if name not in offered]:
        raise ValueError(
            f"rule: synapses of this circuit see no {' and no '.join(missing)}; allowed: {', '.join(offered)}"
        )
    is_sampled(circuit, *needed)  # raises where a circuit hides that it samples
    if isinstance(tasks, Recorded):
        weights, activity = network_shapes(circuit, *needed)
        tasks.check(weights, activity, read)
    if lifetime.steps < min_steps(tasks):
        raise ValueError(f"inner_loop.steps = {lifetime.steps}: these tasks need at least {min_steps(tasks)}")
