"""The learner: a rule in a circuit on a task family."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
from msgspec import Struct
from msgspec.structs import replace

from metarule.circuits.base import (
    is_sampled,
    is_stochastic,
    lower_bounds_of,
    paths_of,
    plastic_of,
    sees_own_weights,
)
from metarule.lifetime import chunks, closed_loop, initial, losses, sharing
from metarule.lifetime.bounds import bounded
from metarule.lifetime.checks import check_parts
from metarule.lifetime.inner_loop import InnerLoop
from metarule.protocols import (
    AffineInWeight,
    Chunkable,
    Circuit,
    ClosedLoop,
    Factored,
    InitialWeights,
    Recorded,
    Rule,
    TaskFamily,
)
from metarule.rules.lifting import complete, local_variables
from metarule.types import (
    CircuitStep,
    Integer,
    LearnerState,
    LifetimeContext,
    Metrics,
    PRNGKey,
    PyTree,
    StepOutput,
    Stimulus,
    Synapse,
    Theta,
)

__all__ = ["Lifetime"]


class Lifetime(Struct, frozen=True, kw_only=True, repr_omit_defaults=True):
    """A rule in a circuit on a task family.

    w ← clip(w + g·Δw(θ), ±weight_bound) at each step, with the gate g of the stimulus (1 without one)
    meta-loss = online_loss_weight · mean_t loss(output_t) + (1 − online_loss_weight) · mean_examples loss(final output)
              + l1 · Σ|θ| / scale

    The sum is over θ of the rule but `logit_decay`: a logit of 0 is a decay of ½, not a shorter rule. The weights
    change after the output of a step. In the final evaluation plasticity is off. Tasks in a closed loop give the loss
    of each step, and the meta-loss is its mean, whatever `online_loss_weight` is; there is no final evaluation.

    Attributes:
        rule: Δw = f(local variables; θ); a rule with `init` and `delta` alone is completed with defaults.
        circuit: neurons and projections.
        tasks: task family.
        inner_loop: length, bound and loss of a lifetime.

    Raises:
        ValueError: sizes of tasks and circuit that differ, an output activation that does not fit the loss, a rule that
            reads local variables which the circuit does not offer, or a lifetime that is too short for the tasks.
    """

    rule: Rule
    circuit: Circuit
    tasks: TaskFamily
    inner_loop: InnerLoop = InnerLoop()

    def __post_init__(self) -> None:
        check_parts(self)

    @property
    def steps(self) -> int:
        """Length of the lifetime."""
        return self.inner_loop.steps

    def with_steps(self, steps: int) -> "Lifetime":
        """Copy of the learner with a lifetime of another length."""
        return replace(self, inner_loop=replace(self.inner_loop, steps=steps))

    # --- θ

    def init_theta(self, key: PRNGKey) -> Theta:
        """Draw an initial θ; where it is not shared, its leaves have a leading axis [groups, …]."""
        init, groups = self.rule.init, len(self.theta_groups)
        rule_key = jax.random.fold_in(key, 1) if initial.learns_initial(self.circuit) else key
        theta = jax.vmap(init)(jax.random.split(rule_key, groups)) if groups else init(rule_key)
        if not initial.learns_initial(self.circuit):
            return theta
        values = initial.draw(self.circuit, jax.random.fold_in(key, 0), self._sizes)
        return {initial.RULE: theta, initial.INITIAL: values}

    def theta_scale(self) -> Theta:
        """Natural size of each parameter, shaped as θ."""
        scale = complete(self.rule).scale()
        if self.theta_groups:
            scale = jax.tree.map(lambda leaf: jnp.stack([leaf] * len(self.theta_groups)), scale)
        if not initial.learns_initial(self.circuit):
            return scale
        steps = initial.scale(self.circuit, self._sizes, self.inner_loop.initial_scale)
        return {initial.RULE: scale, initial.INITIAL: steps}

    def rule_theta(self, theta: Theta) -> Theta:
        """θ of the rule alone, without initial weights that are meta-learned."""
        return initial.rule_of(self.circuit, theta)

    def with_rule_theta(self, theta: Theta, rule: Theta) -> Theta:
        """θ with another θ of the rule, and the same initial weights where they are meta-learned."""
        return initial.with_rule(self.circuit, theta, rule)

    def theta_of(self, theta: Theta, projection: int) -> Theta:
        """θ of a projection, by its number."""
        theta = self.rule_theta(theta)
        if self.inner_loop.theta == "per_path":
            projection = self.theta_groups.index(self._paths[projection])
        return self._narrow(theta if self.inner_loop.theta == "shared" else sharing.member(theta, projection))

    @property
    def theta_groups(self) -> tuple[str, ...]:
        """Names of the groups of projections that have a θ of their own; `()` where θ is shared."""
        return sharing.groups(self.inner_loop.theta, self._paths)

    def describe(self, theta: Theta) -> Mapping[str, Any]:
        """Named parameters, by path or projection where each has its own."""
        return sharing.describe(complete(self.rule), self.theta_groups, self.rule_theta(theta))

    def equation(self, theta: Theta) -> str:
        """The rule as one equation a θ."""
        rule, sharing_of = complete(self.rule), self.inner_loop.theta
        return sharing.equation(rule, sharing_of, self.theta_groups, self.rule_theta(theta))

    # --- The lifetime

    def init(self, theta: Theta, key: PRNGKey, task: PyTree) -> tuple[LifetimeContext, LearnerState]:
        """Draw a network with fresh weights for a task, as from `tasks.sample`.

        The key decides weights, wiring and the randomness of stimuli. Initial weights that are meta-learned are those
        of θ.
        """
        weight_key, stimulus_key = jax.random.split(key)
        weights, wiring, circuit_state = self.circuit.init(weight_key, *self._sizes)
        weights, wiring = initial.placed(self.circuit, theta, weights, wiring)
        if isinstance(self.tasks, InitialWeights):
            weights = self.tasks.initial_weights(task, weights)
        weights, wiring, circuit_state = self._narrow((weights, wiring, circuit_state))
        memory = tuple(complete(self.rule).memory(weight) for weight in weights)
        context = LifetimeContext(task, wiring, stimulus_key, rest=circuit_state)
        task_state = self.tasks.start(task) if isinstance(self.tasks, ClosedLoop) else ()
        return context, LearnerState(weights, memory, circuit_state, task_state)

    def stimulus(self, context: LifetimeContext, t: Integer) -> Stimulus:
        """Stimulus at step t, with a key where circuit or task draw random numbers."""
        if isinstance(self.tasks, ClosedLoop) or is_stochastic(self.circuit):
            return closed_loop.keyed_stimulus(self.tasks, context, t)
        return self.tasks.stimulus(context.task, t, jax.random.fold_in(context.key, t))

    def step(
        self, theta: Theta, context: LifetimeContext, state: LearnerState, stimulus: Stimulus
    ) -> tuple[LearnerState, StepOutput]:
        """Present a stimulus, then change the weights."""
        return self.step_with_record(theta, context, state, stimulus)[:2]

    def step_with_record(
        self, theta: Theta, context: LifetimeContext, state: LearnerState, stimulus: Stimulus
    ) -> tuple[LearnerState, StepOutput, Any]:
        """Do as `step`, and record what `invert_step` needs.

        The record holds the state of the circuit before the step, the local variables of each projection without its
        weights, and the gate.
        """
        if stimulus.restart is not None:
            state = self._restarted(context, state, stimulus.restart)
        response, reaction, gate = closed_loop.respond(self, context, state, stimulus)
        output = response.output.astype(stimulus.target.dtype)
        projections = enumerate(zip(state.weights, state.memory, response.synapses, strict=True))
        changed = [self.apply_rule(theta, number, *one, gate) for number, one in projections]
        weights, memory = zip(*changed, strict=True)
        loss = losses.online_loss(self, context, state, stimulus, response, reaction)
        variables = tuple({k: v for k, v in one._asdict().items() if k != "weight"} for one in response.synapses)
        after = LearnerState(weights, memory, response.state, () if reaction is None else reaction.state)
        record = (state.circuit, variables, gate)
        return after, StepOutput(loss, output, response.activity, response.log_probability), record

    def apply_rule(
        self,
        theta: Theta,
        projection: int,
        weight: Float[Array, "pre post"],
        memory: PyTree,
        synapse: Synapse,
        gate: Float[Array, ""] | None = None,
    ) -> tuple[Float[Array, "pre post"], PyTree]:
        """Weights and memory of a projection, by its number, after a step with these local variables."""
        if not self._plastic(projection):
            return weight, memory
        change, memory = complete(self.rule).update(self.theta_of(theta, projection), memory, synapse)
        change = change if gate is None else gate.astype(change.dtype) * change
        lower = lower_bounds_of(self.circuit, projection + 1)[projection]
        return bounded(weight + change, self.inner_loop.weight_bound, lower), memory

    def evaluate(self, theta: Theta, context: LifetimeContext, state: LearnerState) -> tuple[Float[Array, ""], Metrics]:
        """Evaluate the network with plasticity off; only the penalty `l1` depends on θ.

        Tasks in a closed loop are scored by what the network has done so far, and have no loss here.

        Returns:
            (1 − online_loss_weight) · mean loss over the examples + l1 · Σ|θ| / scale, and the metrics; a network that
            diverged has the primary metric 0.
        """
        return losses.final_loss(self, theta, context, state)

    @property
    def samples(self) -> bool:
        """True if the circuit samples, such as actions."""
        return is_sampled(self.circuit, *self._sizes)

    @property
    def learns_initial(self) -> bool:
        """True if the initial weights are meta-learned."""
        return initial.learns_initial(self.circuit)

    def present(self, context: LifetimeContext, state: LearnerState, stimulus: Stimulus) -> CircuitStep:
        """Response of the network to a stimulus, before its weights change."""
        return self.circuit.step(state.weights, context.wiring, state.circuit, self._narrow(stimulus))

    # --- Chunks of steps

    @property
    def chunkable(self) -> bool:
        """True if a `Factored` rule and a `Chunkable` circuit allow chunks of steps, and tasks are not recordings."""
        return (
            isinstance(self.rule, Factored)
            and self.rule.factored
            and isinstance(self.circuit, Chunkable)
            and self.circuit.chunkable
            and all(map(self._plastic, range(len(self._paths))))
            and not self.inner_loop.bfloat16
            and not isinstance(self.tasks, Recorded | ClosedLoop)
            and not is_stochastic(self.circuit)
            and not initial.learns_initial(self.circuit)
        )

    def run_chunk(
        self, theta: Theta, context: LifetimeContext, state: LearnerState, ts: Int[Array, " n"]
    ) -> tuple[LearnerState, Float[Array, ""], Bool[Array, ""]]:
        """State after a chunk, the loss over it, and whether the result is certainly exact."""
        return chunks.run_chunk(self, theta, context, state, ts)

    # --- Inversion of steps

    @property
    def invertible(self) -> bool:
        """True if Δw is affine in the weight, and synapses have no memory and see the very weights that change."""
        rule, scalar = complete(self.rule), jax.ShapeDtypeStruct((), float)
        is_affine = isinstance(self.rule, AffineInWeight) and self.rule.affine
        return (
            (is_affine or "weight" not in local_variables(self.rule))
            and not self.inner_loop.bfloat16
            and not isinstance(self.tasks, ClosedLoop)
            and not initial.learns_initial(self.circuit)
            and all(bound is None for bound in lower_bounds_of(self.circuit, len(self._paths)))
            and sees_own_weights(self.circuit, *self._sizes)
            and not jax.tree.leaves(jax.eval_shape(rule.memory, scalar))
        )

    def invert_step(self, theta: Theta, state: LearnerState, record: Any) -> LearnerState:
        """State before a step from that after it and its record, if no weight was clipped at its bound.

        w = (w' − Δw(0)) / (1 + Δw(1) − Δw(0)), because Δw is affine in w
        """
        circuit_state, variables, gate = record
        learner, weights = self.without_bound(), []
        for number, (after, memory, one) in enumerate(zip(state.weights, state.memory, variables, strict=True)):

            def changed(weight: Array, number: int = number, memory: Any = memory, one: Any = one) -> Array:
                return learner.apply_rule(theta, number, weight, memory, Synapse(**one, weight=weight), gate)[0]

            offset = changed(jnp.zeros_like(after))
            weights.append((after - offset) / (changed(jnp.ones_like(after)) - offset))
        return LearnerState(tuple(weights), state.memory, circuit_state)

    def recorded_potentials(self, record: Any) -> list[Array]:
        """Potentials in a record, by which a reconstruction is verified."""
        return [variables["potential"] for variables in record[1]]

    def at_bound(self, state: LearnerState) -> Bool[Array, ""]:
        """True if any weight is at its bound."""
        weights = jax.lax.stop_gradient(state.weights)
        bound = self.inner_loop.weight_bound
        return jnp.any(jnp.stack([jnp.any(jnp.abs(weight) >= bound) for weight in weights]))

    def without_bound(self) -> "Lifetime":
        """Copy of the learner whose weights are not bounded."""
        return replace(self, inner_loop=replace(self.inner_loop, weight_bound=math.inf))

    # --- Helpers

    @property
    def _sizes(self) -> tuple[int, int]:
        return self.tasks.inputs, self.tasks.outputs

    @property
    def _paths(self) -> tuple[str, ...]:
        return paths_of(self.circuit, *self._sizes)

    def _plastic(self, projection: int) -> bool:
        return plastic_of(self.circuit, projection + 1)[projection]

    def _restarted(self, context: LifetimeContext, state: LearnerState, restart: Float[Array, ""]) -> LearnerState:
        """State in which activity and traces start anew if a session starts."""
        memory = tuple(complete(self.rule).memory(weight) for weight in state.weights)
        anew = state._replace(memory=memory, circuit=context.rest)
        return jax.tree.map(lambda one, other: jnp.where(restart > 0, one, other), anew, state)

    def _narrow(self, tree: PyTree) -> PyTree:
        """Numbers in the precision of the network."""
        if not self.inner_loop.bfloat16:
            return tree
        real = jnp.floating
        return jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16) if jnp.issubdtype(leaf.dtype, real) else leaf, tree)
