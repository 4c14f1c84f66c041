"""Every form can be called, and lifetimes are split where they do not fit."""

import math

import jax
import numpy as np
import pytest

from benchmarks.speeds import forms
from benchmarks.speeds.problem import THETA, Size, draw

SIZE = Size(2, 3, 1, 4, 4)


def test_rules_start_with_the_stated_coefficients():
    seven, more = (forms.stated(terms) for terms in ("seven", "taylor(pre, potential, weight, modulator; 2)"))
    np.testing.assert_array_equal(seven.init(jax.random.key(0)), np.float32(THETA))
    theta = dict(zip(more.names, more.init(jax.random.key(0)).tolist()))
    assert {name: value for name, value in theta.items() if value} == dict(zip(seven.names, np.float32(THETA).tolist()))


def test_there_is_a_form_without_a_bound_and_one_of_the_sum():
    assert {form.bound for form in forms.FORMS.values()} == {forms.BOUND, math.inf}
    prepared = forms.FORMS["metarule, summed"].prepare(SIZE, draw(SIZE), 0)
    losses, gradients = prepared.outcome(prepared.call())
    assert (losses.shape, gradients.shape) == ((), (7,))
    assert prepared.compile_seconds > 0
    assert prepared.temporary_bytes > 0


def test_lives_of_the_literature_are_split_where_they_do_not_fit():
    form, lifetimes = forms.FORMS["literature"], draw(SIZE)
    whole = form.prepare(SIZE, lifetimes, 2**30)
    split = form.prepare(SIZE, lifetimes, whole.temporary_bytes - 1)
    assert (whole.note, split.note) == ("", "lives side by side: 2")
    for one, other in zip(whole.outcome(whole.call()), split.outcome(split.call())):
        np.testing.assert_allclose(one, other, rtol=1e-5)
    with pytest.raises(forms.TooLarge, match="one lifetime takes 0.0 GiB"):
        form.prepare(SIZE, lifetimes, 10)
