"""Learning a Boolean function from its truth table."""

from functools import lru_cache
from typing import Annotated, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8
from msgspec import Meta

from metarule.config.schema import Checked
from metarule.prng import Purpose, run_key, stream
from metarule.tasks.base import rounds
from metarule.tasks.functions import ENUMERABLE, are_separable, enumerate_tables, npn_classes, patterns, sample_tables
from metarule.tasks.losses import BINARY_CROSS_ENTROPY, ActivatedLoss
from metarule.tasks.pools import MemberPool, share_held_out
from metarule.types import Integer, Metrics, PRNGKey, Split, Stimulus

__all__ = ["Boolean", "BooleanTask"]

# Passes through the patterns, each with its own order; longer lifetimes repeat them.
_SHUFFLES = 32

# Seed of the sample of functions from families that are too large to enumerate; the same for all runs.
_SAMPLE_SEED = 1992


class BooleanTask(NamedTuple):
    """One function, and the order of its patterns.

    Attributes:
        table: target for each pattern, 0 or 1.
        order: number of the pattern at each step; each pass is shuffled separately.
    """

    table: Float[Array, " patterns"]
    order: Int[Array, " steps"]


class Boolean(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="boolean"):
    """Boolean functions of n inputs, one a task, with their patterns in shuffled passes.

    Up to four inputs the family has every function; beyond, a fixed random sample. Inputs are ±1, targets 0 or 1. A
    function is *solved* when all 2ⁿ outputs are on the right side of ½ at the end of the lifetime.

    Attributes:
        inputs: n, inputs of each function.
        functions: functions of the family; `parity` is that of all inputs and its negation, for `split_by = "none"`.
        split_by: choice of the test functions: at `random`; by `npn` class, so that no test function equals a training
            function up to negating or permuting inputs or negating the output; `leave_one_out`, which holds out
            function number seed; or `none`: both pools have every function.
        test_fraction: share of the functions (or classes) that is held out.
        sampled: functions of a family that is too large to enumerate, from n = 5 on.

    Raises:
        ValueError: a split by class of functions of a single class.

    References:
        S. Bengio, Y. Bengio, J. Cloutier, J. Gecsei, "On the Optimization of a Synaptic Learning Rule", 1992.
    """

    inputs: Annotated[int, Meta(ge=2, le=10)] = 3
    functions: Literal["all", "separable", "not_separable", "parity"] = "all"
    split_by: Literal["random", "npn", "leave_one_out", "none"] = "random"
    test_fraction: Annotated[float, Meta(gt=0, lt=1)] = 0.5
    sampled: Annotated[int, Meta(ge=2, le=10_000)] = 1024
    outputs: ClassVar[int] = 1
    loss: ClassVar[ActivatedLoss] = BINARY_CROSS_ENTROPY
    primary_metric: ClassVar[str] = "solved"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.split_by == "npn" and self._family[1].max() < 1:
            raise ValueError("split_by = npn: all functions are of one class; allowed: random, leave_one_out, none")

    def split(self, seed: Integer) -> Split:
        """Split the functions into a training and a test pool, disjoint unless `split_by` is `"none"`."""
        tables, classes = self._family
        order_key, class_key = jax.random.split(stream(run_key(seed), Purpose.SPLIT))
        members = jax.random.permutation(order_key, len(tables))
        match self.split_by:
            case "random":
                is_test = jnp.arange(len(tables)) < share_held_out(self.test_fraction, len(tables))
            case "npn":
                count = int(classes.max()) + 1
                rank = jax.random.permutation(class_key, count)
                is_test = rank[jnp.asarray(classes)[members]] < share_held_out(self.test_fraction, count)
            case "leave_one_out":
                is_test = members == seed % len(tables)
            case "none":
                pool = MemberPool(members, jnp.asarray(len(tables)))
                return Split(train=pool, test=pool)
        return Split(train=_pool(members, ~is_test), test=_pool(members, is_test))

    def sample(self, key: PRNGKey, pool: MemberPool, index: Integer) -> BooleanTask:
        """Sample function number `index` of a pool, modulo its size; the key decides the order of patterns."""
        return BooleanTask(
            table=jnp.asarray(self._family[0])[self.task_id(pool, index)].astype(float),
            order=rounds(key, 2**self.inputs, _SHUFFLES).reshape(-1),
        )

    def task_id(self, pool: MemberPool, index: Integer) -> Integer:
        """Number of the function."""
        return pool.member(index)

    def stimulus(self, task: BooleanTask, t: Integer, key: PRNGKey) -> Stimulus:
        """Pattern of step t, and its target."""
        pattern = task.order[t % task.order.size]
        return Stimulus(input=self._signs[pattern], target=task.table[pattern, None])

    def examples(self, task: BooleanTask) -> Stimulus:
        """All 2ⁿ patterns."""
        return Stimulus(input=self._signs, target=task.table[:, None])

    def metrics(self, output: Float[Array, "n outputs"], target: Float[Array, "n outputs"]) -> Metrics:
        """Solved (all patterns right), and the share of right patterns."""
        right = (output > 0.5) == (target > 0.5)
        return {"solved": jnp.all(right).astype(float), "accuracy": jnp.mean(right.astype(float))}

    @property
    def _family(self) -> tuple[UInt8[np.ndarray, "functions patterns"], Int[np.ndarray, " functions"]]:
        return _tables_and_classes(self.inputs, self.functions, self.sampled)

    @property
    def _signs(self) -> Float[Array, "patterns inputs"]:
        return jnp.asarray(2.0 * patterns(self.inputs) - 1.0)


def _pool(members: Int[Array, " n"], chosen: Bool[Array, " n"]) -> MemberPool:
    return MemberPool(members=members[jnp.argsort(~chosen, stable=True)], size=jnp.sum(chosen))


@lru_cache(maxsize=16)
def _tables_and_classes(
    inputs: int, functions: str, sampled: int
) -> tuple[UInt8[np.ndarray, "functions patterns"], Int[np.ndarray, " functions"]]:
    if functions == "parity":
        odd = patterns(inputs).sum(axis=1) % 2
        tables = np.stack([odd, 1 - odd]).astype(np.uint8)
    elif inputs > ENUMERABLE:
        tables = sample_tables(inputs, sampled, functions, seed=_SAMPLE_SEED)
    else:
        tables = enumerate_tables(inputs)
        if functions != "all":
            tables = tables[are_separable(tables, inputs) == (functions == "separable")]
    return tables, npn_classes(tables, inputs)
