"""One learner living through one task."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from msgspec import Meta, Struct
from msgspec.structs import replace

from metarule.config.schema import Checked
from metarule.lifetime.bounds import bounded
from metarule.tasks.scores import scores_of
from metarule.types import (
    LOGITS,
    Circuit,
    Integer,
    LearnerState,
    LifetimeContext,
    Metrics,
    PRNGKey,
    PyTree,
    Rule,
    StepOutput,
    Stimulus,
    Synapse,
    TaskFamily,
    Theta,
)

__all__ = ["LONGEST", "InnerLoop", "Lifetime"]

# Steps of a lifetime, at most.
LONGEST = 10_000_000

_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


class InnerLoop(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long a lifetime lasts, how strong a weight may become, and what of the lifetime counts.

    Attributes:
        steps: length of the lifetime.
        weight_bound: weights stay within ±weight_bound. Tight bounds keep long lifetimes from being chaotic, so that their
            gradients are of use. In Python it may be infinite.
        online_loss_weight: share of the meta-loss that falls on the lifetime itself, the mean loss over its steps; the
            rest is the mean loss of the final network on the assessed examples.
        l1: price of each number of θ in the meta-loss, in units of θ, so that terms that earn little shrink to nothing.
        theta: one θ `shared` by all projections, one `per_path` of the circuit (such as forward and backward), or one
            `per_projection`.
        bfloat16: weights and activities have 8 significant bits, so that accelerators move half as much; θ, the
            meta-loss and the θ-gradient stay as they are. A change of less than 1/256 of a weight is lost.

    References:
        Tibshirani 1996 (the penalty on absolute values).
    """

    steps: Annotated[int, Meta(ge=1, le=LONGEST, description="steps in a lifetime")] = 200
    weight_bound: Annotated[
        float, Meta(gt=0, description="weights stay within plus and minus this", extra={"infinite": True})
    ] = 2.0
    online_loss_weight: Annotated[
        float, Meta(ge=0, le=1, description="share of the meta-loss that falls on the lifetime, the rest on its end")
    ] = 0.5
    l1: Annotated[float, Meta(ge=0, description="weight of the sum of |theta| / unit in the meta-loss")] = 0.0
    theta: Annotated[
        Literal["shared", "per_path", "per_projection"],
        Meta(description="one theta for all projections, one for each path of the circuit, or one each"),
    ] = "shared"
    bfloat16: Annotated[bool, Meta(description="weights and activities in bfloat16, theta in float32")] = False


class Lifetime(Struct, frozen=True, kw_only=True):
    """A rule in a circuit on a family of tasks.

    w ← clip(w + Δw(θ), ±weight_bound), step after step
    meta-loss = online_loss_weight · mean_t loss(output_t) + (1 − online_loss_weight) · mean_examples loss(final output)
              + l1 · Σ|θ| / u

    u are the units of θ. The sum is over all of θ but what it calls `logit_decay`: a logit of 0 is a decay of ½, not a
    shorter rule. The weights change after each output was given; while assessing, the rule is
    off.

    Attributes:
        rule: Δw = f(local variables; θ).
        circuit: who is wired to whom.
        tasks: what there is to learn.
        inner_loop: length, bounds and loss of a lifetime.

    Raises:
        ValueError: tasks of other sizes than the circuit has, output neurons that do not fit the loss of the tasks, a
            rule that looks at what synapses of the circuit do not see, or a lifetime that is too short for the tasks.
    """

    rule: Rule
    circuit: Circuit
    tasks: TaskFamily
    inner_loop: InnerLoop = InnerLoop()

    def __post_init__(self) -> None:
        sizes = self.circuit.sizes
        if sizes is not None and sizes != (self.tasks.inputs, self.tasks.outputs):
            raise ValueError(
                f"circuit: it has {sizes[0]} input and {sizes[1]} output neurons; these tasks have "
                f"{self.tasks.inputs} inputs and {self.tasks.outputs} outputs"
            )
        if self.circuit.output != self.tasks.link:
            raise ValueError(
                f"circuit.output = '{self.circuit.output}': the loss of these tasks needs '{self.tasks.link}'"
            )
        if missing := [name for name in self.rule.variables if name not in self.circuit.offers]:
            raise ValueError(
                f"rule: synapses of this circuit see no {' and no '.join(missing)}; allowed: "
                f"{', '.join(self.circuit.offers)}"
            )
        if self.steps < self.tasks.min_steps:
            raise ValueError(f"inner_loop.steps = {self.steps}: these tasks need at least {self.tasks.min_steps}")

    @property
    def steps(self) -> int:
        """Length of the lifetime."""
        return self.inner_loop.steps

    def with_steps(self, steps: int) -> "Lifetime":
        """The same learner with a lifetime of another length."""
        return replace(self, inner_loop=replace(self.inner_loop, steps=steps))

    @property
    def without_bound(self) -> "Lifetime":
        """The same learner with weights that nothing stops."""
        return replace(self, inner_loop=replace(self.inner_loop, weight_bound=math.inf))

    def theta(self, key: PRNGKey) -> Theta:
        """Draw an initial θ; where it is not shared, its leaves gain a leading axis [paths or projections, …]."""
        if self.inner_loop.theta == "shared":
            return self.rule.init(key)
        return jax.vmap(self.rule.init)(jax.random.split(key, len(self.theta_groups)))

    def theta_of(self, theta: Theta, projection: int) -> Theta:
        """The θ of a projection, by its number."""
        match self.inner_loop.theta:
            case "shared":
                return self._narrow(theta)
            case "per_path":
                number = self.theta_groups.index(self.circuit.paths[projection])
            case "per_projection":
                number = projection
        return self._narrow(_member(theta, number))

    def theta_scale(self) -> Theta:
        """Natural size of each number of θ, shaped as θ."""
        if self.inner_loop.theta == "shared":
            return self.rule.scale()
        return jax.tree.map(lambda leaf: jnp.stack([leaf] * len(self.theta_groups)), self.rule.scale())

    def init(self, key: PRNGKey, task: PyTree) -> tuple[LifetimeContext, LearnerState]:
        """A network with fresh weights that is about to meet a task.

        Args:
            key: decides the weights, the wiring and whatever is random in the steps.
            task: as from `tasks.sample`.

        Returns:
            What stays constant in this lifetime, and the carry at its start.
        """
        weight_key, stimulus_key = jax.random.split(key)
        weights, wiring, activity = self._narrow(self.circuit.init(weight_key, self.tasks.inputs, self.tasks.outputs))
        memory = tuple(self.rule.memory(weight) for weight in weights)
        return LifetimeContext(task, wiring, stimulus_key), LearnerState(weights, memory, activity)

    def step(
        self, theta: Theta, context: LifetimeContext, state: LearnerState, t: Integer
    ) -> tuple[LearnerState, StepOutput]:
        """One step: the circuit answers, then every synapse changes.

        Args:
            theta: θ.
            context: constant part of the lifetime.
            carry: state before the step.
            time: number of the step, from 0.

        Returns:
            State after it, and what was seen.
        """
        state, seen, _ = self.present(theta, context, state, t)
        return state, seen

    def present(
        self, theta: Theta, context: LifetimeContext, state: LearnerState, t: Integer
    ) -> tuple[LearnerState, StepOutput, Any]:
        """A step, as in `step`, and what its synapses have seen.

        Args:
            theta: θ.
            context: constant part of the lifetime.
            carry: state before the step.
            time: number of the step, from 0.

        Returns:
            State after it, what was seen of it, and what `undo` needs to know: the activity before it, and what was
            local to the synapses of each projection but for their weights.
        """
        stimulus = self.stimulus(context, t)
        narrow = self._narrow(stimulus)
        activity, output, projections = self.circuit.step(state.weights, context.wiring, state.activity, narrow)
        output = output.astype(stimulus.target.dtype)
        changed = [
            self.changed(theta, number, *synapses)
            for number, synapses in enumerate(zip(state.weights, state.memory, projections, strict=True))
        ]
        weights, memory = zip(*changed, strict=True)
        loss = self.step_loss(output, stimulus.target)
        local = tuple({k: v for k, v in seen._asdict().items() if k != "weight"} for seen in projections)
        return LearnerState(weights, memory, activity), StepOutput(loss, output), (state.activity, local)

    def stimulus(self, context: LifetimeContext, t: Integer) -> Stimulus:
        """What is presented at a time."""
        return self.tasks.stimulus(context.task, t, jax.random.fold_in(context.key, t))

    def changed(
        self, theta: Theta, number: int, weight: Float[Array, "pre post"], memory: PyTree, seen: Synapse
    ) -> tuple[Float[Array, "pre post"], PyTree]:
        """Weights and memory of a projection, by its number, after a step of which its synapses see `seen`."""
        change, memory = self.rule.update(self.theta_of(theta, number), memory, seen)
        return bounded(weight + change, self.inner_loop.weight_bound), memory

    def step_loss(self, output: Float[Array, " outputs"], target: Float[Array, " targets"]) -> Float[Array, ""]:
        """Share of the meta-loss of an output along the lifetime."""
        return self.inner_loop.online_loss_weight / self.steps * self.tasks.loss(output, target)

    @property
    def chunkable(self) -> bool:
        """Whether the changes of the first projection can be made chunk by chunk.

        Weights have to change by what depends on pre times themselves, besides products of one side each, which a rule
        says by `factored`; and the projection hears the stimulus alone, which a circuit says by `ahead`.
        """
        return (
            getattr(self.rule, "factored", False)
            and getattr(self.circuit, "ahead", False)
            and not self.inner_loop.bfloat16
        )

    @property
    def invertible(self) -> bool:
        """Whether steps can be undone.

        Δw has to be affine in the weight, which a rule says by `affine` or by not looking at it, and exact but for
        rounding; synapses remember nothing, and see the very weights that change, which a circuit says by `sees_weights`.
        """
        scalar = jax.ShapeDtypeStruct((), float)
        affine = getattr(self.rule, "affine", False) or "weight" not in self.rule.variables
        return (
            affine
            and not self.inner_loop.bfloat16
            and getattr(self.circuit, "sees_weights", False)
            and not jax.tree.leaves(jax.eval_shape(self.rule.memory, scalar))
        )

    def invert_step(self, theta: Theta, state: LearnerState, kept: Any) -> LearnerState:
        """State before a step from that after it, if no weight was stopped at its bound.

        w = (w' − Δw(0)) / (1 + Δw(1) − Δw(0)), for Δw is affine in w

        Args:
            theta: θ.
            carry: state after the step.
            kept: what `present` told of it.

        Returns:
            State before it.
        """
        activity, local = kept
        weights = []
        for number, (after, seen) in enumerate(zip(state.weights, local, strict=True)):

            def change(weight: Array, number: int = number, seen: Any = seen) -> Array:
                seen = Synapse(**seen, weight=weight)
                return self.rule.update(self.theta_of(theta, number), state.memory[number], seen)[0]

            offset = change(jnp.zeros_like(after))
            weights.append((after - offset) / (1 + change(jnp.ones_like(after)) - offset))
        return LearnerState(tuple(weights), state.memory, activity)

    def evaluate(self, theta: Theta, context: LifetimeContext, state: LearnerState) -> tuple[Float[Array, ""], Metrics]:
        """What the network is worth with the rule off.

        Args:
            theta: θ, for its price alone: a network that no longer learns does not use it.
            context: constant part of the lifetime.
            carry: state of the network.

        Returns:
            (1 − online_loss_weight) · mean loss over the assessed examples + l1 · Σ|θ| / u, and the scores: of a network that
            diverged, those of one that has solved nothing.
        """
        examples = self.tasks.examples(context.task)
        answer = jax.vmap(lambda example: self.circuit.step(state.weights, context.wiring, state.activity, example)[1])
        outputs = answer(self._narrow(examples)).astype(examples.target.dtype)
        loss = (1 - self.inner_loop.online_loss_weight) * jnp.mean(jax.vmap(self.tasks.loss)(outputs, examples.target))
        if self.inner_loop.l1:
            loss += self.inner_loop.l1 * _size(theta, self.theta_scale())
        return loss, scores_of(self.tasks, state.weights, outputs, examples.target)

    def describe(self, theta: Theta) -> Mapping[str, Any]:
        """The named numbers of θ, by path or projection where each has its own."""
        if self.inner_loop.theta == "shared":
            return self.rule.describe(theta)
        return {owner: self.rule.describe(one) for owner, one in zip(self.theta_groups, self._each(theta), strict=True)}

    def equation(self, theta: Theta) -> str:
        """The rule as a person would write it, one equation a θ."""
        if self.inner_loop.theta == "shared":
            return self.rule.equation(theta)
        labels = [f"Δw[{owner}]" for owner in self.theta_groups]
        if self.inner_loop.theta == "per_projection":
            labels = [f"Δw{number + 1}".translate(_SUBSCRIPTS) for number in range(len(labels))]
        return "\n".join(
            self.rule.equation(one).replace("Δw", label, 1)
            for label, one in zip(labels, self._each(theta), strict=True)
        )

    @property
    def theta_groups(self) -> tuple[str, ...]:
        """Who has a θ of its own; nobody where it is shared."""
        if self.inner_loop.theta == "shared":
            return ()
        paths = self.circuit.paths
        if self.inner_loop.theta == "per_path":
            return tuple(dict.fromkeys(paths))
        return tuple(f"projection {number + 1}" for number in range(len(paths)))

    def _each(self, theta: Theta) -> list[Theta]:
        return [_member(theta, number) for number in range(len(self.theta_groups))]

    def _narrow(self, tree: PyTree) -> PyTree:
        """Numbers as a lifetime has them."""
        if not self.inner_loop.bfloat16:
            return tree
        real = jnp.floating
        return jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16) if jnp.issubdtype(leaf.dtype, real) else leaf, tree)


def _size(theta: Theta, theta_scale: Theta) -> Float[Array, ""]:
    """Σ|θ| / u, logits of decays left out."""
    numbers = zip(jax.tree.leaves_with_path(theta), jax.tree.leaves(theta_scale), strict=True)
    sizes = [jnp.sum(jnp.abs(leaf) / unit) for (path, leaf), unit in numbers if LOGITS not in path]
    return jnp.sum(jnp.stack(sizes))


def _member(theta: Theta, number: int) -> Theta:
    return jax.tree.map(lambda leaf: leaf[number], theta)
