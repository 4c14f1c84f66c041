"""Tasks of several families, on which one rule is meta-trained."""

import math
from functools import partial
from itertools import combinations
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from msgspec import Meta

from metarule.config.schema import Checked
from metarule.tasks.base import primary_metric, round_steps
from metarule.tasks.boolean import Boolean
from metarule.tasks.losses import ActivatedLoss
from metarule.tasks.points import Points
from metarule.tasks.pools import MixturePool
from metarule.tasks.subsets import numbered
from metarule.tasks.tabular import Tabular
from metarule.types import Integer, Metrics, PRNGKey, Split, Stimulus

__all__ = ["Mixture", "MixtureTask", "family_of"]

# Examples on which a network is evaluated, at most.
_MOST = 4096


class MixtureTask(NamedTuple):
    """A task of one of the families.

    Attributes:
        family: number of the family.
        tasks: the task in the place of its family, and zeros in the places of the others.
    """

    family: Int[Array, ""]
    tasks: tuple[Any, ...]


class Mixture(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="mixture"):
    """Tasks of several families in turn, each as often as the others, for the same circuit.

    The families have equal numbers of outputs and equal losses. The number of inputs is that of the largest family;
    inputs that a family lacks are 0. Each family is split as it is alone, by the same seed, so that held-out tasks of
    the mixture are held-out tasks of its families. The metrics are those that all families share. In mean scores each
    family counts as much as the others, however many tasks it has.

    Attributes:
        families: the families, each a table with its kind and fields; one that is listed twice is drawn twice as often.

    Raises:
        ValueError: families that differ in outputs or loss, families of the same tasks that are split differently, or
            numbers of examples without a small common multiple.
    """

    families: Annotated[tuple[Boolean | Points | Tabular, ...], Meta(min_length=2)]

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, values in (
            ("outputs", [family.outputs for family in self.families]),
            ("activation of the outputs", [family.loss.activation for family in self.families]),
        ):
            if len(set(values)) > 1:
                raise ValueError(f"families: {name} = {', '.join(map(str, values))}; allowed: the same for all")
        for (place, one), (other_place, other) in combinations(enumerate(self.families), 2):
            if _overlap(one, other):
                raise ValueError(
                    f"families: {place} and {other_place} share tasks and are split differently, so that one may "
                    "learn what the other holds out; allowed: one of them, or the same split"
                )
        if self._examples > _MOST:
            counts = ", ".join(str(_count_examples(family)) for family in self.families)
            raise ValueError(
                f"families: their numbers of test examples, {counts}, have the common multiple {self._examples}; "
                f"allowed: at most {_MOST}, as by other test_examples"
            )

    @property
    def inputs(self) -> int:
        """Largest number of inputs of a family."""
        return max(family.inputs for family in self.families)

    @property
    def outputs(self) -> int:
        """Number of outputs of each family."""
        return self.families[0].outputs

    @property
    def loss(self) -> ActivatedLoss:
        """Loss of each family."""
        return self.families[0].loss

    @property
    def primary_metric(self) -> str:
        """Primary metric of the families if it is the same for all, otherwise their accuracy."""
        names = {primary_metric(family) for family in self.families}
        return names.pop() if len(names) == 1 else "accuracy"

    @property
    def round_steps(self) -> int:
        """Steps of a round if they are the same for all families, otherwise 0."""
        steps = {round_steps(family) for family in self.families}
        return steps.pop() if len(steps) == 1 else 0

    def split(self, seed: Integer) -> Split:
        """Split the tasks of each family."""
        splits = [family.split(seed) for family in self.families]
        return Split(*(MixturePool(pools) for pools in zip(*splits, strict=True)))

    def sample(self, key: PRNGKey, pool: MixturePool, index: Integer) -> MixtureTask:
        """Sample a task; the index modulo the number of families decides the family, the quotient the task in it."""
        number, inner = self._place(index)
        tasks = [
            family.sample(key, *numbered(one, inner)) for family, one in zip(self.families, pool.pools, strict=True)
        ]
        return MixtureTask(number, tuple(_only(number == place, task) for place, task in enumerate(tasks)))

    def task_id(self, pool: MixturePool, index: Integer) -> Integer:
        """Number made of the id in the family and the number of the family."""
        number, inner = self._place(index)
        # An odd factor keeps different ids different where the product overflows.
        factor = len(self.families) | 1
        ids = [
            jnp.asarray(family.task_id(*numbered(one, inner)), inner.dtype) * factor + self.families.index(family)
            for family, one in zip(self.families, pool.pools, strict=True)
        ]
        return _chosen(number, ids)

    def stimulus(self, task: MixtureTask, t: Integer, key: PRNGKey) -> Stimulus:
        """Stimulus of the family of the task."""
        shown = [family.stimulus(one, t, key) for family, one in zip(self.families, task.tasks, strict=True)]
        return _chosen(task.family, [self._padded(one) for one in shown])

    def examples(self, task: MixtureTask) -> Stimulus:
        """Test examples, as often as makes their number the same for all families."""
        shown = [family.examples(one) for family, one in zip(self.families, task.tasks, strict=True)]
        return _chosen(task.family, [jax.tree.map(self._repeated, self._padded(one)) for one in shown])

    def metrics(self, output: Float[Array, "n outputs"], target: Float[Array, "n targets"]) -> Metrics:
        """Metrics that all families share."""
        first, *others = (family.metrics(output, target) for family in self.families)
        return {name: value for name, value in first.items() if all(name in other for other in others)}

    @property
    def _examples(self) -> int:
        """Examples on which a network is evaluated."""
        return math.lcm(*map(_count_examples, self.families))

    def _place(self, index: Integer) -> tuple[Int[Array, ""], Int[Array, ""]]:
        """Number of the family of a task, and number of the task in the pool of the family."""
        inner, number = jnp.divmod(jnp.asarray(index), len(self.families))
        return number, inner

    def _padded(self, stimulus: Stimulus) -> Stimulus:
        """Stimulus, or batch of stimuli, with zeros for the inputs that its family lacks."""
        *batch, inputs = stimulus.input.shape
        return stimulus._replace(input=jnp.pad(stimulus.input, [(0, 0) for _ in batch] + [(0, self.inputs - inputs)]))

    def _repeated(self, rows: Float[Array, "n _"]) -> Float[Array, "examples _"]:
        return jnp.tile(rows, (self._examples // rows.shape[0], 1))


def family_of(task: Any) -> Int[Array, ""] | None:
    """Number of the family of a task of a mixture; None for other tasks."""
    return task.family if isinstance(task, MixtureTask) else None


def _count_examples(family: Boolean | Points | Tabular) -> int:
    """Number of examples on which a network of a family is evaluated."""
    if isinstance(family, Boolean):
        return 2**family.inputs
    return family.test_examples * (family.ways if isinstance(family, Tabular) else 2)


def _overlap(one: Boolean | Points | Tabular, other: Boolean | Points | Tabular) -> bool:
    """True if the training tasks of one family may be among those that another holds out."""
    if isinstance(one, Boolean) and isinstance(other, Boolean):
        return one.inputs == other.inputs and one != other
    if isinstance(one, Tabular) and isinstance(other, Tabular):
        divisions = {(each.label, each.test_classes, each.test_rows) for each in (one, other)}
        return one.source == other.source and len(divisions) > 1
    return False


def _only(condition: Array, task: Any) -> Any:
    """A task if a condition holds, otherwise zeros."""
    return jax.tree.map(lambda leaf: jnp.where(condition, leaf, jnp.zeros_like(leaf)), task)


def _chosen(number: Int[Array, ""], cases: list[Any]) -> Any:
    """One of several pytrees of equal shapes, by its number."""
    result = cases[0]
    for place, case in enumerate(cases[1:], 1):
        result = jax.tree.map(partial(jnp.where, number == place), case, result)
    return result
