"""States that synapses visit in lifetimes under a rule, and the changes that this rule and others make there."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from msgspec import Struct
from msgspec.structs import replace

from metarule.analysis.evaluation import map_lifetimes, sample_lifetime
from metarule.circuits.base import offered_variables, paths_of, plastic_of
from metarule.lifetime.learner import Lifetime
from metarule.parallel.devices import sharded_jit
from metarule.prng import run_key
from metarule.protocols import Rule
from metarule.rules.expansion import expand
from metarule.rules.lifting import complete
from metarule.rules.polynomial import Polynomial
from metarule.rules.terms import Term
from metarule.types import Integer, LearnerState, PRNGKey, Synapse, Theta

__all__ = ["Visited", "term_values", "visited"]

# Samples over all lifetimes.
_SAMPLES = 50_000


class Visited(NamedTuple):
    """Samples of the synapses that share a θ, over lifetimes and steps.

    Attributes:
        group: path or projection with its own θ; empty where θ is shared.
        variables: local variables in float64 [samples]; None for those that were not sampled.
        change: Δw of the rule, before the bound of the weights [samples].
        lifetimes: number of lifetimes; diverged ones are left out.
        projection: number of the projection of each sample [samples].
        traces: traces of a polynomial by name, after the step [samples].
        others: Δw of each of the other rules in the same states [rules, samples].
    """

    group: str
    variables: Synapse
    change: Float[np.ndarray, " samples"]
    lifetimes: int
    projection: Int[np.ndarray, " samples"]
    traces: Mapping[str, Float[np.ndarray, " samples"]]
    others: Float[np.ndarray, "rules samples"]


def visited(
    lifetime: Lifetime,
    theta: Theta,
    pool: Any,
    key: PRNGKey,
    lifetimes: int,
    names: Collection[str] = Synapse._fields,
    others: Sequence[Rule] = (),
) -> tuple[Visited, ...]:
    """Sample the local variables and Δw of plastic synapses in lifetimes under a rule.

    All synapses of a θ are sampled equally often, and all steps but those whose gate of plasticity is 0.

    Args:
        lifetime: the learner.
        theta: θ.
        pool: tasks.
        key: decides the lifetimes, and which of their synapses and steps are sampled.
        lifetimes: number of networks.
        names: local variables that are sampled, if the circuit offers them.
        others: rules whose Δw, with their initial θ, is computed at the same synapses. They change no weights.

    Returns:
        About 50,000 samples for each θ, or all if there are fewer.
    """
    offered = offered_variables(lifetime.circuit, lifetime.tasks.inputs, lifetime.tasks.outputs)
    variables = tuple(name for name in offered if name in names)
    rule = lifetime.rule
    traces = tuple(expand(rule.terms, rule.traces, rule.without).traces) if isinstance(rule, Polynomial) else ()
    learner = replace(lifetime, rule=_Recording(rule, variables, traces, tuple(others)))
    ends, groups = np.cumsum([len(variables), len(traces), len(others)]), []
    samples = jax.device_get(_samples(learner, theta, pool, key, lifetimes))
    for name in _members(lifetime):  # in the order of the projections, which the program does not keep
        rows, taken, finite = samples[name]
        columns = rows[taken & finite[:, None]].astype(float).T
        own, own_traces, changes, (change, projection) = np.split(columns, ends)
        values: dict[str, Any] = dict.fromkeys(Synapse._fields) | dict(zip(variables, own, strict=True))
        named = dict(zip(traces, own_traces, strict=True))
        numbers = projection.astype(int)
        groups.append(Visited(name, Synapse(**values), change, int(finite.sum()), numbers, named, changes))
    return tuple(groups)


def term_values(term: Term, values: Iterable[Any]) -> Any:
    """Compute the values of a term in float64, where `term_value` has the precision of JAX.

    Args:
        term: the term.
        values: arrays in the order of its variables; None for those that it lacks.
    """
    return sum(
        scale * prod(one**power for one, power in zip(values, powers, strict=True) if power) for scale, powers in term
    )


class _Recording(Struct, frozen=True):
    """A rule whose memory also holds, for each synapse, local variables, traces and changes of the last step.

    The columns are those of local variables, of traces, of Δw of other rules, and of the Δw of the rule.
    """

    rule: Rule
    variables: tuple[str, ...]
    traces: tuple[str, ...]
    others: tuple[Rule, ...]

    def init(self, key: PRNGKey) -> Theta:
        return self.rule.init(key)

    def memory(self, weight: Float[Array, "*synapse"]) -> tuple[Any, Float[Array, "*synapse columns"], Any]:
        count = len(self.variables) + len(self.traces) + len(self.others) + 1
        columns = jnp.zeros((*weight.shape, count), weight.dtype)
        own, *others = (complete(rule).memory(weight) for rule in (self.rule, *self.others))
        return own, columns, tuple(others)

    def delta(self, theta: Theta, memory: Any, synapse: Synapse) -> tuple[Float[Array, ""], Any]:
        own, columns, others = memory
        change, own = self.rule.delta(theta, own, synapse)
        # Memories keep the type of the weights, as those of a network in bfloat16.
        narrow = partial(jax.tree.map, lambda leaf: leaf.astype(columns.dtype))
        rows = [
            rule.delta(narrow(rule.init(run_key(0))), one, synapse)
            for rule, one in zip(self.others, others, strict=True)
        ]
        values = [getattr(synapse, name) for name in self.variables] + [own[name] for name in self.traces]
        values += [*(one for one, _ in rows), change]
        row = jnp.stack([jnp.asarray(value, columns.dtype) for value in values])
        return change, (own, row, tuple(one for _, one in rows))


@sharded_jit("learner", "lifetimes")
def _samples(
    learner: Lifetime, theta: Theta, pool: Any, key: PRNGKey, lifetimes: int
) -> dict[str, tuple[Array, Array, Array]]:
    """Samples of each θ, by its name: rows [lifetimes, samples, columns], whether each is one, and which are finite."""
    count = max(1, -(-_SAMPLES // lifetimes))
    return map_lifetimes(partial(_of_lifetime, learner, theta, pool, key, count), lifetimes)


def _of_lifetime(
    learner: Lifetime, theta: Theta, pool: Any, key: PRNGKey, count: int, number: Integer
) -> dict[str, tuple[Float[Array, "samples columns"], Bool[Array, " samples"], Bool[Array, ""]]]:
    task, lifetime_key, _ = sample_lifetime(learner, pool, key, number)
    synapse_key, row_key = jax.random.split(jax.random.split(jax.random.fold_in(key, number), 3)[2])
    context, state = learner.init(theta, lifetime_key, task)
    each = -(-count // learner.steps)

    def step(state: LearnerState, t: Integer) -> tuple[LearnerState, Any]:
        stimulus = learner.stimulus(context, t)
        state, _ = learner.step(theta, context, state, stimulus)
        records = [_numbered(one[1], number) for number, one in enumerate(state.memory)]
        drawn = {
            name: _drawn(jnp.concatenate([records[one] for one in members]), jax.random.fold_in(synapse_key, t), each)
            for name, members in _members(learner).items()
        }
        return state, (drawn, jnp.ones(()) if stimulus.plasticity is None else stimulus.plasticity)

    # There is no kernel for drawing rows, by which `loop` would be compiled to one operation.
    _, (drawn, gates) = jax.lax.scan(step, state, jnp.arange(learner.steps))
    return {name: _thinned(rows, gates > 0, row_key, count) for name, rows in drawn.items()}


def _members(learner: Lifetime) -> dict[str, list[int]]:
    """Numbers of the plastic projections of each θ, by its name."""
    paths = paths_of(learner.circuit, learner.tasks.inputs, learner.tasks.outputs)
    plastic = plastic_of(learner.circuit, len(paths))
    names = {"shared": [""] * len(paths), "per_path": paths, "per_projection": learner.theta_groups}
    members: dict[str, list[int]] = {}
    for number, name in enumerate(names[learner.inner_loop.theta]):
        if plastic[number]:
            members.setdefault(name, []).append(number)
    return members


def _numbered(columns: Float[Array, "pre post columns"], number: int) -> Float[Array, "synapses more"]:
    """Rows of the synapses of a projection, with its number at the end."""
    return jnp.pad(columns.reshape(-1, columns.shape[-1]), ((0, 0), (0, 1)), constant_values=number)


def _drawn(rows: Float[Array, "synapses columns"], key: PRNGKey, count: int) -> Float[Array, "some columns"]:
    """Rows of synapses drawn at random, or all if there are no more."""
    return rows if len(rows) <= count else rows[jax.random.randint(key, (count,), 0, len(rows))]


def _thinned(
    rows: Float[Array, "steps some columns"], plastic: Bool[Array, " steps"], key: PRNGKey, count: int
) -> tuple[Float[Array, "samples columns"], Bool[Array, " samples"], Bool[Array, ""]]:
    """Rows of plastic steps drawn at random; whether each is of such a step; and whether those of all are finite."""
    taken = jnp.repeat(plastic, rows.shape[1])
    rows = rows.reshape(-1, rows.shape[-1])
    finite = jnp.all(jnp.isfinite(rows) | ~taken[:, None])
    order = jnp.argsort(jnp.where(taken, jax.random.uniform(key, taken.shape), 2.0))[:count]
    return rows[order], taken[order], finite
