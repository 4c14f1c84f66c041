import numpy as np
import pytest

from metarule.tasks.functions import are_separable, enumerate_tables, is_separable, npn_classes, patterns, sample_tables


@pytest.mark.parametrize(("inputs", "count"), [(2, 14), (3, 104), (4, 1882)])
def test_separable_functions_are_counted_exactly(inputs, count):
    tables = enumerate_tables(inputs)
    assert len(np.unique(tables, axis=0)) == 2 ** (2**inputs)
    assert are_separable(tables, inputs).sum() == count


@pytest.mark.parametrize(("inputs", "classes"), [(2, 4), (3, 14), (4, 222)])
def test_npn_classes_are_counted_exactly(inputs, classes):
    tables = enumerate_tables(inputs)
    assert npn_classes(tables, inputs).max() + 1 == classes


def test_separability_of_classes_equals_that_of_functions():
    tables = enumerate_tables(3)
    assert [is_separable(table, 3) for table in tables] == are_separable(tables, 3).tolist()


def test_xor_is_not_separable_and_majority_is():
    bits = patterns(3)
    assert not is_separable((bits[:, 0] ^ bits[:, 1]).astype(np.uint8), 3)
    assert is_separable((bits.sum(axis=1) > 1).astype(np.uint8), 3)


def equivalent(table, inputs, rng):
    """The same function with inputs permuted and negated, and sometimes the output negated."""
    moved = patterns(inputs)[:, rng.permutation(inputs)] ^ rng.integers(0, 2, inputs)
    return table[moved @ (1 << np.arange(inputs)[::-1])] ^ rng.integers(0, 2, dtype=np.uint8)


@pytest.mark.parametrize("inputs", [3, 4, 5, 6])
def test_equivalent_functions_share_their_class(inputs):
    rng = np.random.default_rng(0)
    tables = rng.integers(0, 2, (20, 2**inputs), dtype=np.uint8)
    others = np.stack([equivalent(table, inputs, rng) for table in tables])
    classes = npn_classes(np.concatenate([tables, others]), inputs)
    np.testing.assert_array_equal(classes[:20], classes[20:])
    assert len(np.unique(classes)) > 5


@pytest.mark.parametrize("functions", ["all", "separable", "not_separable"])
def test_functions_of_many_inputs_are_sampled(functions):
    tables = sample_tables(5, 40, functions, seed=0)
    assert len(np.unique(tables, axis=0)) == 40
    separable = {is_separable(table, 5) for table in tables}
    assert functions == "all" or separable == {functions == "separable"}
