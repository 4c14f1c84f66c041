"""Recordings of animals as a task family."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from immutabledict import immutabledict
from jaxtyping import Array, Float
from msgspec import Meta
from msgspec.structs import force_setattr

from metarule.config.schema import Checked
from metarule.prng import Purpose, run_key, stream
from metarule.recordings.animals import Animal
from metarule.recordings.arrays import arrays_of, deviations_of
from metarule.recordings.files import read_recordings
from metarule.recordings.likelihood import GAUSSIAN, by_kind, fit_of
from metarule.recordings.requirements import check_fields, check_network
from metarule.recordings.rewards import third_factor
from metarule.recordings.tasks import Readout, RecordedTask, SharedUnknowns, Unknowns
from metarule.tasks.losses import ActivatedLoss
from metarule.types import CircuitStep, Integer, Metrics, Observed, PRNGKey, Split, StepOutput, Stimulus, Weights

__all__ = ["Recordings"]

# Share of a recording on which its last weights are evaluated.
_LAST = 10
# First value of a decay of the average reward that is fitted.
_START_DECAY = 0.9


class Recordings(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="recordings"):
    """Recordings of animals, from which a rule is inferred: each animal is a task.

    A network with the inputs, rewards and gates of an animal should do what the animal did:

        −ln L = Σ ½·((activity − recorded)/σ)² + Σ ½·((weight − recorded)/σ′)² − Σ ln P(recorded choice) + …

    over whatever was observed. The reward is the third factor of the rule, its `neuromodulator`. The modulator of an
    output neuron is its target, or else the recorded choice, minus its activity. P(choice = 1) is the activity of a
    sigmoid output neuron, or a fitted readout of all output neurons.

    Attributes:
        files: recordings, such as `animals/*.npz`: one file an animal or one file of all, `.npz`, long-format `.csv`,
            or, with the extra `nwb`, `.nwb`. The path is relative to the config file, or on the command line to the
            working directory.
        columns: columns of a CSV file by array, such as `inputs = ["odour_a", "odour_b"]`, or fields of an NWB file.
        fit: kinds of observations that the rule is fitted to, of `activity`, `weights` and `choices`; empty for all
            that were recorded. The others are scored only.
        outputs: number of output neurons; 0 for as many as the recordings have.
        neurons: numbers of the neurons that `activity` holds; empty for all output neurons.
        population: neurons that these numbers count: those of the `output`, or `all` but the inputs, layer by layer.
        test_animals: animals that are held out, a number or a share below 1; 0 for none.
        initial: initial weights: `known` from the recordings, `zero`, `fitted` for each animal, or `auto`,
            which is known where they were recorded and fitted elsewhere.
        readout: P(choice = 1) is the activity of the output neuron (`fixed`), or σ(offset + gains · output) with
            `fitted` offset and gains.
        reward: third factor: `raw` reward R, or `centred`, R − R̄ with the moving average R̄ of the rewards before.
        reward_decay: share of the average that a reward leaves; or `fitted`.
        sha256: hash of the files, which is filled in; a run whose files have changed since is refused.

    Raises:
        ValueError: files that cannot be used, or fields that do not fit them.

    References:
        Y. Mehta, D. Tyulmankov, A. Rajagopalan, G. Turner, J. Fitzgerald, J. Funke, "Model based inference of synaptic
        plasticity rules", 2024; V. Geadah, J. Pillow et al., "Inferring learning rules from animal decision-making",
        2025.
    """

    files: str = ""
    columns: Mapping[str, str | tuple[str, ...]] = immutabledict()
    fit: tuple[Literal["activity", "weights", "choices"], ...] = ()
    outputs: Annotated[int, Meta(ge=0)] = 0
    neurons: tuple[Annotated[int, Meta(ge=0)], ...] = ()
    population: Literal["output", "all"] = "output"
    test_animals: Annotated[float, Meta(ge=0, lt=2**31)] = 0.2
    initial: Literal["auto", "known", "zero", "fitted"] = "auto"
    readout: Literal["fixed", "fitted"] = "fixed"
    reward: Literal["raw", "centred"] = "raw"
    reward_decay: Annotated[float, Meta(ge=0, lt=1)] | Literal["fitted"] = 0.9
    sha256: str = ""
    primary_metric: ClassVar[str] = "explained"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.files:
            raise ValueError("files = '': set it, such as 'animals/*.npz'; metarule simulate makes some")
        _, found = self._read
        if self.sha256 not in ("", found):
            raise ValueError(f"files = '{self.files}': they have changed since the run was started; put them back")
        force_setattr(self, "sha256", found)
        if not self.outputs:
            force_setattr(self, "outputs", self._count_outputs())
        check_fields(self)

    # --- What was recorded

    @property
    def animals(self) -> tuple[Animal, ...]:
        """The recordings."""
        return self._read[0]

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of observations that were recorded."""
        first = self.animals[0]
        recorded = {"activity": first.activity is not None, "weights": bool(first.weights)}
        return tuple(kind for kind, one in (recorded | {"choices": first.choices is not None}).items() if one)

    @property
    def fitted(self) -> tuple[str, ...]:
        """Kinds of observations that the rule is fitted to."""
        return self.fit or self.kinds

    @property
    def inputs(self) -> int:
        """Number of input neurons."""
        return self.animals[0].inputs.shape[1]

    @property
    def longest(self) -> int:
        """Steps of the longest recording."""
        return max(len(animal.inputs) for animal in self.animals)

    @property
    def held_out(self) -> int:
        """Number of animals that are held out."""
        count = len(self.animals)
        if not 0 < self.test_animals < 1:
            return int(self.test_animals)
        return min(max(round(self.test_animals * count), 1), count - 1)

    @property
    def deviations(self) -> Mapping[str, float]:
        """Standard deviation of the observations of each Gaussian kind, over all animals; 1 if they are constant."""
        return deviations_of(self)

    # --- Tasks

    @property
    def loss(self) -> Any:
        """Mean loss of an output over what was recorded: −ln P(choice), or ½ squared error."""
        return _CHOICE if "choices" in self.kinds and self.readout == "fixed" else _squared_error

    def split(self, seed: Integer) -> Split:
        """Split the animals into those that θ is fitted to and those that are held out; all are both if none is."""
        # Arguments, because constants would be compiled into the program.
        arrays = jax.tree.map(lambda leaf: jnp.asarray(leaf, int if leaf.dtype.kind == "i" else float), arrays_of(self))
        return _split(arrays, seed, self.held_out, self._decay)

    def sample(self, key: PRNGKey, pool: RecordedTask, index: Integer) -> RecordedTask:
        """Animal number `index` of a pool; numbers beyond the last begin anew."""
        return jax.tree.map(lambda leaf: leaf[index % leaf.shape[0]], pool)

    def task_id(self, pool: RecordedTask, index: Integer) -> Integer:
        """Number of the animal."""
        return pool.number[index % pool.number.shape[0]]

    def initial_weights(self, task: RecordedTask, weights: Weights) -> Weights:
        """Weights as they were recorded, or assumed; those that are fitted start at 0, or in deep networks as drawn."""
        given = task.unknowns.initial
        is_drawn = self.initial_weights_are_fitted and len(weights) > 1
        start = [drawn if is_drawn else jnp.zeros_like(drawn) for drawn in weights]
        known = {number: weight for number, weight in enumerate(given) if weight is not None}
        return tuple(known.get(number, weight) for number, weight in enumerate(start))

    def stimulus(self, task: RecordedTask, t: Integer, key: PRNGKey) -> Stimulus:
        """Inputs, reward and observations of step t; after the recording nothing is observed, and nothing changes."""
        is_real = t < task.length
        at = jnp.minimum(t, task.inputs.shape[0] - 1)

        def observed(array: Any) -> Any:
            return None if array is None else jnp.where(is_real, array[at], jnp.nan)

        third, restart = task.unknowns.third, task.restart
        return Stimulus(
            input=task.inputs[at],
            target=task.target[at],
            observed=Observed(observed(task.activity), tuple(map(observed, task.weights)), observed(task.choices)),
            reward=None if third is None else third[at],
            plasticity=jnp.where(is_real, task.plastic[at], 0.0),
            restart=None if restart is None else jnp.where(is_real, restart[at], 0.0),
        )

    def examples(self, task: RecordedTask) -> Stimulus:
        """The last tenth of a recording, on which the network at its end is evaluated."""
        count = max(task.inputs.shape[0] // _LAST, 1)
        ts = jnp.maximum(task.length - count, 0) + jnp.arange(count)
        stimuli = jax.vmap(lambda t: self.stimulus(task, t, run_key(0)))(ts)
        return Stimulus(stimuli.input, jax.vmap(self._recorded_output)(stimuli))

    def metrics(self, output: Float[Array, "n outputs"], target: Float[Array, "n outputs"]) -> Metrics:
        """Share of the variance of the recorded outputs, or of the deviance of choices, that is explained; at least 0.

        It is 0 where no output was recorded.
        """
        observed = jnp.sum(~jnp.isnan(target)).astype(output.dtype)
        if self.loss is _CHOICE:
            left, whole = jnp.sum(fit_of("choices", output, target).loss), math.log(2) * observed
        else:
            predictions = output, jnp.full_like(output, jnp.nansum(target) / jnp.maximum(observed, 1))
            left, whole = (jnp.sum(fit_of("activity", one, target).loss) for one in predictions)
        return {"explained": jnp.where(whole > left, 1 - left / jnp.where(whole > left, whole, 1.0), 0.0)}

    def _recorded_output(self, stimulus: Stimulus) -> Float[Array, " outputs"]:
        """Recorded choice, or recorded activity of the output neurons; NaN for those that were not recorded."""
        observed, nothing = stimulus.observed, jnp.full(self.outputs, jnp.nan)
        assert observed is not None
        if self.loss is _CHOICE and observed.choice is not None:
            return jnp.full_like(nothing, observed.choice)
        if self.population == "all" or observed.activity is None:
            return nothing
        return nothing.at[jnp.array(self.neurons or range(self.outputs))].set(observed.activity)

    # --- The likelihood

    def predict(self, task: RecordedTask, weights: Weights, response: CircuitStep | StepOutput) -> Observed:
        """Prediction of what is recorded at a step, from the weights before it and the response of the network."""
        activity = response.output if self.population == "output" else jnp.concatenate(response.activity)
        # Slices, because kernels have no gather.
        chosen = jnp.stack([activity[number] for number in self.neurons]) if self.neurons else activity
        readout = task.unknowns.readout
        p = response.output[0] if readout is None else jax.nn.sigmoid(readout.offset + readout.gains @ response.output)
        recorded = zip(weights, task.weights)
        return Observed(
            None if task.activity is None else chosen,
            tuple(None if one is None else weight for weight, one in recorded),
            None if task.choices is None else p,
        )

    def misfit(self, task: RecordedTask, predicted: Observed, observed: Observed) -> Float[Array, ""]:
        """Misfit of a step: ½·mean ((prediction − observation)/sd)² of each Gaussian kind, minus ln P(choice)."""
        one, other = by_kind(predicted), by_kind(observed)
        total = jnp.zeros(())
        for kind in self.fitted:
            scale = self.deviations[kind] ** -2 / one[kind].size if kind in GAUSSIAN else 1.0
            total += scale * jnp.sum(fit_of(kind, one[kind], other[kind]).loss)
        return total

    def check(self, weights: Sequence[Any], activity: Sequence[Any], variables: Sequence[str]) -> None:
        """Refuse a network that does not fit the recordings.

        Args:
            weights: its weights or their shapes.
            activity: activity of its populations but the inputs, or their shapes.
            variables: local variables that the rule reads.

        Raises:
            ValueError: naming what does not fit.
        """
        check_network(self, weights, activity, variables)

    # --- What is assumed or fitted with θ

    @property
    def initial_weights_are_fitted(self) -> bool:
        """True if initial weights that are not known are fitted for each animal."""
        return self.initial in ("auto", "fitted")

    def shared_unknowns(self) -> SharedUnknowns:
        """First values of the unknowns that all animals share."""
        readout = Readout(jnp.zeros(()), jnp.ones(self.outputs)) if self.readout == "fitted" else None
        is_fitted = self.reward_decay == "fitted"
        return SharedUnknowns(readout, jnp.asarray(_logit(_START_DECAY)) if is_fitted else None)

    def own_unknowns(self, task: RecordedTask, weights: Weights) -> tuple[Float[Array, "_ _"] | None, ...]:
        """First values of the initial weights that are fitted, by projection, from those of a network."""
        given = task.unknowns.initial
        is_known = [number < len(given) and given[number] is not None for number in range(len(weights))]
        if not self.initial_weights_are_fitted:
            return ()
        return tuple(None if known else weight for weight, known in zip(weights, is_known, strict=True))

    def assume(self, task: RecordedTask, shared: SharedUnknowns, own: tuple[Any, ...]) -> RecordedTask:
        """Task under some values of its unknowns."""
        given, third = task.unknowns.initial, task.unknowns.third
        known = dict(enumerate(given))
        initial = tuple(known.get(number) if weight is None else weight for number, weight in enumerate(own)) or given
        if shared.reward_logit is not None:
            assert task.rewards is not None  # or the decay of their average would not be fitted
            third = third_factor(task.rewards, jax.nn.sigmoid(shared.reward_logit))
        return task._replace(unknowns=Unknowns(initial, shared.readout, third))

    @property
    def _decay(self) -> float | None:
        """Decay of the average reward, or its first value; None where rewards are not centred."""
        if self.reward == "raw":
            return None
        return _START_DECAY if isinstance(self.reward_decay, str) else self.reward_decay

    @property
    def _read(self) -> tuple[tuple[Animal, ...], str]:
        return read_recordings(self.files, self.columns)

    def _count_outputs(self) -> int:
        """Number of output neurons that the recordings have."""
        first = self.animals[0]
        if first.targets is not None:
            return first.targets.shape[1]
        if first.choices is not None:
            return 1
        if first.activity is not None and not self.neurons and self.population == "output":
            return first.activity.shape[1]
        if first.weights and not self.neurons:
            return first.weights[max(first.weights)].shape[2]
        raise ValueError("outputs = 0: the recordings do not tell the number of output neurons; set it")


def _squared_error(output: Float[Array, " outputs"], target: Float[Array, " outputs"]) -> Float[Array, ""]:
    return jnp.sum(fit_of("activity", output, target).loss)


def _choice_loss(output: Float[Array, " outputs"], target: Float[Array, " outputs"]) -> Float[Array, ""]:
    return jnp.sum(fit_of("choices", output, target).loss)


# The network that predicts choices by its output has a sigmoid output neuron.
_CHOICE = ActivatedLoss(_choice_loss, "sigmoid")


def _logit(p: float) -> float:
    return math.log(p / (1 - p))


@partial(jax.jit, static_argnames=("held_out", "decay"))
def _split(arrays: RecordedTask, seed: Integer, held_out: int, decay: float | None) -> Split:
    order = jax.random.permutation(stream(run_key(seed), Purpose.SPLIT), arrays.number.shape[0])

    def some(numbers: Array) -> RecordedTask:
        pool = jax.tree.map(lambda leaf: leaf[numbers], arrays)
        if pool.rewards is None:
            return pool
        third = jax.vmap(lambda rewards: third_factor(rewards, decay))(pool.rewards)
        return pool._replace(unknowns=pool.unknowns._replace(third=third))

    return Split(train=some(order[held_out:]), test=some(order[:held_out] if held_out else order))
