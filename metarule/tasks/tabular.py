"""Learning to tell classes of real data apart."""

from functools import lru_cache
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from msgspec import Meta, Struct

from metarule.streams import Purpose, run_key, stream
from metarule.tasks.losses import cross_entropy
from metarule.types import Integer, Metrics, PRNGKey, Split, Stimulus

__all__ = ["Tabular", "TabularTask"]

# Numbers the tasks of a pool: which of its classes task number i has is the same in every run.
_NUMBERING = 1797


class TabularTask(NamedTuple):
    """Some classes under shuffled labels, and which of their examples are presented and assessed.

    Attributes:
        presented: rows of the data, in the order of presentation.
        presented_labels: their labels.
        assessed: rows of the data, none of which is presented.
        assessed_labels: their labels.
    """

    presented: Int[Array, " presentations"]
    presented_labels: Int[Array, " presentations"]
    assessed: Int[Array, " assessed"]
    assessed_labels: Int[Array, " assessed"]


class Tabular(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="tabular"):
    """k-way classification among classes drawn at random from a real data set, with their labels shuffled.

    Test tasks are made of classes that no training task has. Within a task, the presented and the assessed examples
    are disjoint. A life longer than one pass over the presented examples meets them again in the same order.

    Attributes:
        dataset: `digits`, the 1797 images of 8×8 pixels in scikit-learn, scaled to [0, 1].
        ways: classes in a task.
        test_classes: classes kept for test tasks.
        presented: examples of each class that are presented, once each in a pass.
        assessed: examples of each class on which the final network is assessed.

    Raises:
        ValueError: more classes or examples than the data set has.

    References:
        E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", 1998 (the data).
    """

    dataset: Annotated[Literal["digits"], Meta(description="data that ships with scikit-learn")] = "digits"
    ways: Annotated[int, Meta(ge=2, description="classes in a task")] = 3
    test_classes: Annotated[int, Meta(ge=2, description="classes kept for test tasks")] = 4
    presented: Annotated[int, Meta(ge=1, description="examples of each class presented in a pass")] = 34
    assessed: Annotated[int, Meta(ge=1, description="examples of each class assessed at the end")] = 40

    def __post_init__(self) -> None:
        classes, smallest = _SHAPES[self.dataset]
        if self.test_classes < self.ways:
            raise ValueError(f"test_classes is {self.test_classes}; allowed: at least ways, which is {self.ways}")
        if classes - self.test_classes < self.ways:
            raise ValueError(
                f"test_classes {self.test_classes} leaves {classes - self.test_classes} of {classes} classes for "
                f"training; allowed: at least ways, which is {self.ways}"
            )
        if self.presented + self.assessed > smallest:
            raise ValueError(
                f"presented {self.presented} + assessed {self.assessed} examples of a class; "
                f"allowed: at most {smallest} in all, the size of the smallest class of {self.dataset}"
            )

    @property
    def inputs(self) -> int:
        """Number of features."""
        return _load(self.dataset).features.shape[1]

    @property
    def outputs(self) -> int:
        """One output neuron a way."""
        return self.ways

    @property
    def needs(self) -> int:
        """A life of any length will do."""
        return 1

    @property
    def link(self) -> str:
        """Output activation that the loss is made for."""
        return "softmax"

    @property
    def score(self) -> str:
        """Share of the assessed examples that are classified right."""
        return "accuracy"

    def split(self, seed: Integer) -> Split:
        """Part the classes into training and test classes.

        Args:
            seed: decides the split; it may be traced.

        Returns:
            The numbers of the classes in either pool.
        """
        classes, _ = _SHAPES[self.dataset]
        order = jax.random.permutation(stream(run_key(seed), Purpose.SPLIT), classes)
        return Split(train=order[self.test_classes :], test=order[: self.test_classes])

    def sample(self, key: PRNGKey, pool: Int[Array, " classes"], index: Integer) -> TabularTask:
        """Task number `index` of a pool of classes.

        Args:
            key: decides which examples are presented, in what order, and which are assessed.
            pool: classes to draw from.
            index: decides which classes, and their labels.

        Returns:
            The task.
        """
        draw = jax.random.fold_in(jax.random.key(_NUMBERING), index)
        classes = jax.random.choice(draw, pool, (self.ways,), replace=False)
        example_key, order_key = jax.random.split(key)
        data = _load(self.dataset)
        chosen = jax.vmap(self._examples_of)(
            jax.random.split(example_key, self.ways), jnp.asarray(data.rows)[classes], jnp.asarray(data.sizes)[classes]
        )
        labels = jnp.broadcast_to(jnp.arange(self.ways)[:, None], chosen.shape)
        order = jax.random.permutation(order_key, self.ways * self.presented)
        return TabularTask(
            presented=chosen[:, : self.presented].reshape(-1)[order],
            presented_labels=labels[:, : self.presented].reshape(-1)[order],
            assessed=chosen[:, self.presented :].reshape(-1),
            assessed_labels=labels[:, self.presented :].reshape(-1),
        )

    def stimulus(self, task: TabularTask, time: Integer, key: PRNGKey) -> Stimulus:
        """The example presented at a time, and its label, one-hot."""
        turn = time % task.presented.size
        return self._stimulus(task.presented[turn], task.presented_labels[turn])

    def examples(self, task: TabularTask) -> Stimulus:
        """The examples that are assessed."""
        return self._stimulus(task.assessed, task.assessed_labels)

    def loss(self, output: Float[Array, " outputs"], target: Float[Array, " outputs"]) -> Float[Array, ""]:
        """Cross-entropy."""
        return cross_entropy(output, target)

    def metrics(self, output: Float[Array, "n outputs"], target: Float[Array, "n outputs"]) -> Metrics:
        """Share of the examples that are classified right, and the mean cross-entropy."""
        right = jnp.argmax(output, axis=1) == jnp.argmax(target, axis=1)
        return {
            "accuracy": jnp.mean(right.astype(output.dtype)),
            "cross_entropy": jnp.mean(jax.vmap(cross_entropy)(output, target)),
        }

    def _examples_of(self, key: PRNGKey, rows: Int[Array, " largest"], size: Int[Array, ""]) -> Int[Array, " examples"]:
        """Distinct rows of one class: a random order in which the padding comes last."""
        noise = jax.random.uniform(key, rows.shape)
        order = jnp.argsort(jnp.where(jnp.arange(rows.size, dtype=size.dtype) < size, noise, jnp.inf))
        return rows[order[: self.presented + self.assessed]]

    def _stimulus(self, rows: Int[Array, "*batch"], labels: Int[Array, "*batch"]) -> Stimulus:
        features = jnp.asarray(_load(self.dataset).features, float)
        return Stimulus(input=features[rows], target=jax.nn.one_hot(labels, self.ways, dtype=features.dtype))


class _Data(NamedTuple):
    """A data set: features [examples, features], and the rows of each class, padded to the largest class."""

    features: np.ndarray
    rows: np.ndarray
    sizes: np.ndarray


# Classes and size of the smallest class: known without importing the library that holds the data.
_SHAPES = {"digits": (10, 174)}


@lru_cache(maxsize=4)
def _load(dataset: str) -> _Data:
    from sklearn import datasets  # three seconds to import: only where the data is used

    features, labels = getattr(datasets, f"load_{dataset}")(return_X_y=True)
    by_class = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    sizes = np.array([rows.size for rows in by_class], np.int32)
    rows = np.stack([np.pad(rows, (0, sizes.max() - rows.size)) for rows in by_class]).astype(np.int32)
    return _Data(features=features / features.max(), rows=rows, sizes=sizes)
