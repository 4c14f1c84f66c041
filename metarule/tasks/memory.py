"""Working memory: items that are compared with earlier ones."""

from typing import Annotated, ClassVar, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
from msgspec import Meta

from metarule.config.schema import Checked
from metarule.prng import Purpose, run_key, stream
from metarule.tasks.answers import Answers, counted, no_answers
from metarule.tasks.losses import binary_cross_entropy
from metarule.types import Integer, Metrics, PRNGKey, Reaction, Split, Stimulus

__all__ = ["Memory", "MemoryPool", "MemoryState", "MemoryTask", "Recent", "Trial"]

# Answers over which the accuracy is averaged.
_WINDOW = 20

Delay = Annotated[int, Meta(ge=0, le=1000)]


class MemoryPool(NamedTuple):
    """Patterns from which the items of tasks are drawn.

    Attributes:
        patterns: numbers of the patterns, half of all; bit i of a number is input i.
        key: decides the patterns of each task.
    """

    patterns: Int[Array, " patterns"]
    key: PRNGKey


class Trial(NamedTuple):
    """Trial of a delayed match to sample; numbers are floats, as in `Answers`.

    Attributes:
        step: steps since the sample.
        delay: steps between sample and test.
        sample: number of the first item.
        test: number of the second item.
    """

    step: Float[Array, ""]
    delay: Float[Array, ""]
    sample: Float[Array, ""]
    test: Float[Array, ""]


class Recent(NamedTuple):
    """Recent items of an n-back stream; numbers are floats, as in `Answers`.

    Attributes:
        step: steps since the first item.
        items: numbers of the last n + 1 items, the present one last.
    """

    step: Float[Array, ""]
    items: Float[Array, " recent"]


Present: TypeAlias = Trial | Recent


class MemoryTask(NamedTuple):
    """Items, and the beginning of their stream.

    Attributes:
        patterns: pattern of each item, ±1.
        first: first trial, or first item.
    """

    patterns: Float[Array, "items features"]
    first: Present


class MemoryState(NamedTuple):
    """State of a task.

    Attributes:
        present: present trial, or the recent items.
        answers: answers so far.
    """

    present: Present
    answers: Answers


class Memory(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="memory"):
    """Working memory: the output tells whether an item of a stream equals an earlier one.

    In a delayed match to sample, a trial is a sample item for one step, a delay without input, a test item for one
    step, and a pause without input. The network answers at the step of the test item. In an n-back task there is an
    item at every step, and the network answers whether it equals the item n steps earlier, from step n on. Either is so
    with probability ½; otherwise the item is one of the others with equal probabilities.

    loss = steps per answer · cross-entropy at the step of an answer, 0 at other steps

    Its mean over the steps is about the mean cross-entropy of an answer in nats. The target is 1 for equal items, else
    0; at other steps it is the output itself, so that there is no error. The reward is 1 for a right answer, 0 for a
    wrong one, and 0 at other steps. Held-out tasks share no pattern with trained ones. The accuracy is a running mean
    over about 20 answers.

    Attributes:
        task: delayed `match` to sample, or `n_back`.
        items: items of a task, each a pattern of its own.
        features: inputs that show an item, each ±1; two more inputs are cues, 1 with a sample or a test item.
        delays: fewest and most steps between sample and test in `match`, drawn for each trial with equal probabilities.
        pause: steps between test and next sample in `match`.
        n: steps back to the item with which the present one is compared, in `n_back`.

    Raises:
        ValueError: more items than half of the patterns, or delays that are not in order.

    References:
        Blough 1959 (delayed matching to sample); Kirchner 1958 (n-back).
    """

    task: Literal["match", "n_back"] = "match"
    items: Annotated[int, Meta(ge=2, le=64)] = 4
    features: Annotated[int, Meta(ge=4, le=16)] = 8
    delays: tuple[Delay, Delay] = (1, 5)
    pause: Annotated[int, Meta(ge=0, le=1000)] = 1
    n: Annotated[int, Meta(ge=1, le=20)] = 2
    outputs: ClassVar[int] = 1
    activation: ClassVar[str] = "sigmoid"
    primary_metric: ClassVar[str] = "accuracy"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.items > (most := 2 ** (self.features - 1)):
            raise ValueError(
                f"items = {self.items}: a pool has {most} patterns of {self.features} features; allowed: 2 to {most}"
            )
        if self.delays[0] > self.delays[1]:
            raise ValueError(f"delays = {list(self.delays)}; allowed: the fewest steps, then the most")

    @property
    def inputs(self) -> int:
        """Features, and the cues of sample and test."""
        return self.features + 2

    @property
    def min_steps(self) -> int:
        """Steps to the first answer."""
        return self.n + 1 if self.task == "n_back" else self.delays[1] + 2

    @property
    def steps_per_answer(self) -> float:
        """Mean number of steps from an answer to the next."""
        return 1.0 if self.task == "n_back" else 2 + sum(self.delays) / 2 + self.pause

    def split(self, seed: Integer) -> Split:
        """Divide all patterns into two halves, of which the items of training and test tasks are drawn."""
        order_key, train_key, test_key = jax.random.split(stream(run_key(seed), Purpose.SPLIT), 3)
        patterns = jax.random.permutation(order_key, jnp.arange(2**self.features, dtype=jnp.int32))
        half = patterns.size // 2
        return Split(train=MemoryPool(patterns[:half], train_key), test=MemoryPool(patterns[half:], test_key))

    def sample(self, key: PRNGKey, pool: MemoryPool, index: Integer) -> MemoryTask:
        """Sample a task; the index decides the patterns, the key the first trial or item."""
        numbers = pool.patterns[_distinct(jax.random.fold_in(pool.key, index), pool.patterns.size, self.items)]
        bits = (numbers[:, None] >> jnp.arange(self.features, dtype=jnp.int32)[None]) & 1
        return MemoryTask(patterns=2.0 * bits.astype(float) - 1.0, first=self._first(key))

    def task_id(self, pool: MemoryPool, index: Integer) -> Integer:
        """The index; tasks of one pool may share patterns."""
        return index

    def stimulus(self, task: MemoryTask, t: Integer, key: PRNGKey) -> Stimulus:
        """Stimulus without an item, because the state decides which is shown."""
        return Stimulus(input=jnp.zeros(self.inputs), target=jnp.zeros(1))

    def start(self, task: MemoryTask) -> MemoryState:
        """State with the first trial or item."""
        return MemoryState(task.first, no_answers())

    def sense(self, task: MemoryTask, state: MemoryState, stimulus: Stimulus) -> Stimulus:
        """Stimulus with the item of a state, if there is one, and its cue."""
        number, is_sample, is_test = _shown(state.present)
        chosen = (jnp.arange(self.items, dtype=float) == number) & (is_sample | is_test)
        # Not a matrix product, whose precision is lower on accelerators than on CPUs.
        pattern = jnp.sum(jnp.where(chosen[:, None], task.patterns, 0.0), axis=0)
        cues = jnp.stack([is_sample.astype(float), is_test.astype(float)])
        return stimulus._replace(input=jnp.concatenate([pattern, cues]))

    def react(self, task: MemoryTask, state: MemoryState, output: Float[Array, " outputs"], key: PRNGKey) -> Reaction:
        """Score the answer of a step, and go on to the next step, whose item the key draws."""
        answering, equal = _question(state.present)
        target = equal.astype(output.dtype)[None]
        right = answering & ~((output[0] > 0.5) ^ equal)
        loss = self.steps_per_answer * binary_cross_entropy(output, target)
        return Reaction(
            state=MemoryState(self._next(state.present, key), counted(state.answers, answering, right, _WINDOW)),
            reward=right.astype(float),
            loss=jnp.where(answering, loss, 0.0),
            target=jnp.where(answering, target, output),
        )

    def scores(self, task: MemoryTask, state: MemoryState) -> Metrics:
        """Running accuracy, accuracy of all answers, and their number."""
        return state.answers.scores() | {"answers": state.answers.number}

    def _first(self, key: PRNGKey) -> Present:
        """First trial, or a stream that begins with a random item."""
        if self.task == "match":
            return self._trial(key)
        return Recent(step=jnp.zeros(()), items=jnp.concatenate([jnp.zeros(self.n), self._item(key)[None]]))

    def _trial(self, key: PRNGKey) -> Trial:
        """Draw a trial."""
        delay_key, sample_key, test_key = jax.random.split(key, 3)
        sample = self._item(sample_key)
        return Trial(
            step=jnp.zeros(()),
            delay=jax.random.randint(delay_key, (), self.delays[0], self.delays[1] + 1).astype(float),
            sample=sample,
            test=self._equal_or_not(sample, test_key),
        )

    def _item(self, key: PRNGKey) -> Float[Array, ""]:
        """Draw an item."""
        return jax.random.randint(key, (), 0, self.items).astype(float)

    def _equal_or_not(self, item: Float[Array, ""], key: PRNGKey) -> Float[Array, ""]:
        """The same item with probability ½, otherwise one of the others."""
        equal_key, other_key = jax.random.split(key)
        other = item + jax.random.randint(other_key, (), 1, self.items).astype(float)
        other = jnp.where(other >= self.items, other - self.items, other)
        return jnp.where(jax.random.bernoulli(equal_key), item, other)

    def _next(self, present: Present, key: PRNGKey) -> Present:
        """Next step of a trial or the first of the next one; or the next item of a stream."""
        step = present.step + 1
        if isinstance(present, Trial):
            drawn, same = self._trial(key), present._replace(step=step)
            over = step >= present.delay + 2 + self.pause
            return jax.tree.map(lambda one, other: jnp.where(over, one, other), drawn, same)
        any_key, next_key = jax.random.split(key)
        item = jnp.where(step < self.n, self._item(any_key), self._equal_or_not(present.items[1], next_key))
        return Recent(step, jnp.concatenate([present.items[1:], item[None]]))


def _shown(present: Present) -> tuple[Float[Array, ""], Bool[Array, ""], Bool[Array, ""]]:
    """Item of a step, whether it is a sample, and whether it is a test item."""
    if isinstance(present, Recent):
        return present.items[-1], jnp.zeros((), bool), jnp.ones((), bool)
    is_sample, is_test = present.step == 0, present.step == present.delay + 1
    return jnp.where(is_sample, present.sample, present.test), is_sample, is_test


def _question(present: Present) -> tuple[Bool[Array, ""], Bool[Array, ""]]:
    """Whether the network answers in a step, and whether the items to compare are equal."""
    if isinstance(present, Recent):
        return present.step >= present.items.size - 1, present.items[0] == present.items[-1]
    return present.step == present.delay + 1, present.sample == present.test


def _distinct(key: PRNGKey, count: int, size: int) -> Int[Array, " size"]:
    """Draw a set of numbers below `count`, each set with the same probability.

    References:
        R. W. Floyd in Bentley 1987, "Programming Pearls: A Sample of Brilliance".
    """
    draws = jax.random.uniform(key, (size,))

    def add(place: Integer, chosen: Int[Array, " size"]) -> Int[Array, " size"]:
        largest = jnp.asarray(count - size + place, jnp.int32)
        drawn = jnp.floor(draws[place] * (largest + 1).astype(draws.dtype)).astype(jnp.int32)
        return chosen.at[place].set(jnp.where(jnp.any(chosen == drawn), largest, drawn))

    return jax.lax.fori_loop(0, size, add, jnp.full(size, -1, jnp.int32))
