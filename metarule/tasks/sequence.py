"""Prediction of the next symbol of a cycle."""

import itertools
import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Annotated, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from msgspec import Meta

from metarule.config.schema import Checked
from metarule.prng import Purpose, run_key, stream
from metarule.tasks.answers import Answers, counted, no_answers
from metarule.tasks.losses import cross_entropy
from metarule.tasks.pools import MemberPool, split_members
from metarule.types import Integer, Metrics, PRNGKey, Reaction, Split, Stimulus

__all__ = ["SequenceState", "SequenceTask", "SymbolSequence"]

# Most cycles of a family; from larger ones a sample is drawn, the same for all runs.
_MOST, _SAMPLE_SEED = 1024, 2025
# Most rows of symbols that are all tried; more of them make thousands of cycles, of which few are drawn twice.
_ENUMERABLE = 2**16


class SequenceTask(NamedTuple):
    """One cycle.

    Attributes:
        cycle: numbers of its symbols, from a random start.
    """

    cycle: Int[Array, " length"]


class SequenceState(NamedTuple):
    """State of a task.

    Attributes:
        position: position in the cycle; it is a float, as in `Answers`.
        answers: predictions so far.
    """

    position: Float[Array, ""]
    answers: Answers


class SymbolSequence(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="sequence"):
    """Prediction of the next symbol of a cycle that repeats for the whole lifetime.

    loss = −ln(probability of the next symbol), in nats, at every step

    The input is the present symbol, one input neuron each, the target the next one. The reward is 1 if the next symbol
    has the largest output, else 0. No two cycles of a family are equal up to their start, and none repeats a shorter
    one. A family of more than 1024 cycles is a fixed random sample of them. The accuracy is a running mean over about
    as many predictions as the cycle has steps.

    Attributes:
        symbols: symbols of the alphabet.
        length: steps of a cycle.
        distinct: each symbol is at most once in a cycle, so that the present one tells the next; otherwise symbols may
            repeat, and the network has to remember earlier ones.
        test_fraction: share of the cycles that is held out.

    Raises:
        ValueError: a cycle of distinct symbols that is longer than the alphabet, or a family of a single cycle.

    References:
        Elman 1990, "Finding Structure in Time".
    """

    symbols: Annotated[int, Meta(ge=2, le=26)] = 6
    length: Annotated[int, Meta(ge=2, le=100)] = 6
    distinct: bool = True
    test_fraction: Annotated[float, Meta(gt=0, lt=1)] = 0.5
    activation: ClassVar[str] = "softmax"
    primary_metric: ClassVar[str] = "accuracy"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.distinct and self.length > self.symbols:
            raise ValueError(
                f"length = {self.length}: a cycle has each of {self.symbols} symbols at most once; "
                f"allowed: 2 to {self.symbols}, or distinct = false"
            )
        if self.symbols == self.length == 2:
            raise ValueError("symbols = 2: there is only one cycle of length 2; allowed: 3 to 26")

    @property
    def inputs(self) -> int:
        """One neuron a symbol."""
        return self.symbols

    @property
    def outputs(self) -> int:
        """One neuron a symbol."""
        return self.symbols

    def split(self, seed: Integer) -> Split:
        """Split the cycles into a training and a test pool, which are disjoint."""
        return split_members(stream(run_key(seed), Purpose.SPLIT), len(self._cycles), self.test_fraction)

    def sample(self, key: PRNGKey, pool: MemberPool, index: Integer) -> SequenceTask:
        """Sample cycle number `index` of a pool, modulo its size; the key decides the start."""
        cycle = jnp.asarray(self._cycles)[self.task_id(pool, index)]
        start = jax.random.randint(key, (), 0, self.length)
        return SequenceTask(cycle[(start + jnp.arange(self.length)) % self.length])

    def task_id(self, pool: MemberPool, index: Integer) -> Integer:
        """Number of the cycle."""
        return pool.member(index)

    def stimulus(self, task: SequenceTask, t: Integer, key: PRNGKey) -> Stimulus:
        """Symbol of step t, and the next one as target."""
        now, following = task.cycle[t % self.length], task.cycle[(t + 1) % self.length]
        return Stimulus(input=jax.nn.one_hot(now, self.symbols), target=jax.nn.one_hot(following, self.symbols))

    def start(self, task: SequenceTask) -> SequenceState:
        """State at the first symbol."""
        return SequenceState(jnp.zeros(()), no_answers())

    def sense(self, task: SequenceTask, state: SequenceState, stimulus: Stimulus) -> Stimulus:
        """The stimulus itself, because the cycle goes on whatever is predicted."""
        return stimulus

    def react(
        self, task: SequenceTask, state: SequenceState, output: Float[Array, " outputs"], key: PRNGKey
    ) -> Reaction:
        """Score a prediction, and go on to the next symbol; equally probable symbols are no prediction."""
        after = state.position + 1
        after = jnp.where(after >= self.length, 0.0, after)
        is_after = jnp.arange(self.length, dtype=float) == after
        following = jax.nn.one_hot(task.cycle, self.symbols, dtype=output.dtype)
        # Not a matrix product, whose precision is lower on accelerators than on CPUs.
        target = jnp.sum(jnp.where(is_after[:, None], following, 0.0), axis=0)
        right = jnp.sum(target * output) > jnp.max((1 - target) * output)
        return Reaction(
            state=SequenceState(after, counted(state.answers, jnp.ones((), bool), right, self.length)),
            reward=right.astype(float),
            loss=cross_entropy(output, target),
            target=target,
        )

    def scores(self, task: SequenceTask, state: SequenceState) -> Metrics:
        """Running accuracy, and that of all predictions so far."""
        return state.answers.scores()

    @property
    def _cycles(self) -> Int[np.ndarray, "cycles length"]:
        return _cycles(self.symbols, self.length, self.distinct)


@lru_cache(maxsize=16)
def _cycles(symbols: int, length: int, distinct: bool) -> Int[np.ndarray, "cycles length"]:
    """All cycles of a family, or a sample, each from the start that makes its numbers the smallest."""
    rng, numbers = np.random.default_rng(_SAMPLE_SEED), range(symbols)
    if (math.perm(symbols, length) if distinct else symbols**length) <= _ENUMERABLE:
        rows = itertools.permutations(numbers, length) if distinct else itertools.product(numbers, repeat=length)
        found = np.array([row for row in rows if _is_smallest(row)], np.int32)
        return found if len(found) <= _MOST else rng.permutation(found)[:_MOST]
    drawn: dict[tuple[int, ...], None] = {}
    while len(drawn) < _MOST:
        row = rng.permutation(symbols)[:length] if distinct else rng.integers(symbols, size=length)
        smallest = min(_rotations(tuple(row.tolist())))
        if _is_smallest(smallest):
            drawn[smallest] = None
    return np.array(list(drawn), np.int32)


def _rotations(row: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    return (row[start:] + row[:start] for start in range(len(row)))


def _is_smallest(row: tuple[int, ...]) -> bool:
    """True if a row is smaller than each of its other rotations, so that it repeats no shorter one."""
    return all(row < other for other in itertools.islice(_rotations(row), 1, None))
