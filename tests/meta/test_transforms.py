import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metarule import Gradient, Schedule
from metarule.meta.transforms import clip_by_norm, make_schedule, make_transform, norm


def test_a_schedule_lasts_as_long_as_the_run():
    schedule = make_schedule(Schedule(name="cosine_decay_schedule", arguments={"init_value": 0.5}), steps=200)
    expected = optax.cosine_decay_schedule(0.5, 200)
    assert [float(schedule(step)) for step in (0, 50, 200)] == [float(expected(step)) for step in (0, 50, 200)]


def test_a_schedule_may_have_another_length():
    arguments = {"init_value": 1.0, "end_value": 0.0, "transition_steps": 10}
    schedule = make_schedule(Schedule(name="linear_schedule", arguments=arguments), steps=99)
    assert float(schedule(5)) == pytest.approx(0.5)


def test_warm_up_fits_into_the_run():
    arguments = {"init_value": 0.0, "peak_value": 1e-2, "warmup_steps": 10}
    Gradient(steps=100, learning_rate=Schedule(name="warmup_cosine_decay_schedule", arguments=arguments))
    with pytest.raises(ValueError, match="positive decay_steps"):
        Gradient(steps=5, learning_rate=Schedule(name="warmup_cosine_decay_schedule", arguments=arguments))


@pytest.mark.parametrize("name", ["adam", "adamw", "lion", "rmsprop", "sgd", "adafactor", "lamb"])
def test_optimisers_are_found_by_name(name):
    assert callable(make_transform(name, 1e-3, {}).update)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "adm"}, "'adm' is no optimiser of Optax; allowed: .*adam"),
        ({"name": "lbfgs"}, "lbfgs cannot be used"),
        ({"name": "__doc__"}, "is no optimiser"),
        ({"arguments": {"beta": 0.9}}, "unexpected keyword argument 'beta'; allowed: learning_rate, b1"),
        ({"arguments": {"b1": "high"}}, "adam"),
        ({"learning_rate": Schedule(name="cosine")}, "'cosine' is no schedule of Optax; allowed: .*cosine_decay"),
        ({"learning_rate": Schedule(name="linear_schedule")}, "missing a required argument: 'init_value'"),
        ({"learning_rate": Schedule(name="constant_schedule", arguments={"value": "x"})}, "constant_schedule"),
    ],
)
def test_arguments_that_optax_does_not_take_are_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message) as refused:
        Gradient(**arguments)
    assert "\n" not in str(refused.value)


ROOTED = ["adam", "adamw", "amsgrad", "optimistic_adam"]


def three_steps(transform, gradient):
    """Sum of three steps from 0 with the same gradient."""
    state, theta = transform.init(jnp.zeros(3)), jnp.zeros(3)
    for _ in range(3):
        updates, state = transform.update(gradient, state, theta)
        theta += updates
    return theta


@pytest.mark.parametrize("name", [*ROOTED, "adabelief", "adagrad", "lion", "rmsprop", "sgd"])
@pytest.mark.parametrize("gradient", [(0.0, 0.0, 0.0), (0.5, 0.0, 1e-20)], ids=["zero", "some zero"])
def test_steps_have_a_finite_derivative_where_a_gradient_is_zero(name, gradient):
    transform = optax.chain(clip_by_norm(1.0), make_transform(name, 0.1, {}))
    jacobian = jax.jit(jax.jacobian(lambda gradient: three_steps(transform, gradient)))(jnp.array(gradient))
    assert np.isfinite(jacobian).all()


@pytest.mark.parametrize("name", ROOTED)
def test_steps_are_those_of_optax_but_for_rounding(name):
    transforms = make_transform(name, 0.1, {}), getattr(optax, name)(0.1)
    result, expected = (three_steps(transform, jnp.array([0.5, -1e-4, 1e-9])) for transform in transforms)
    np.testing.assert_allclose(result, expected, rtol=3e-7)


def test_a_given_eps_root_is_used():
    result = three_steps(make_transform("adam", 0.1, {"eps_root": 1e-2}), jnp.full(3, 1e-3))
    np.testing.assert_array_equal(result, three_steps(optax.adam(0.1, eps_root=1e-2), jnp.full(3, 1e-3)))


@pytest.mark.parametrize(
    "tree", [{"a": (3.0, 4.0), "b": 12.0}, {"a": (0.3, 0.4), "b": 0.0}, {"a": (0.0, 0.0), "b": 0.0}]
)
def test_clipping_is_that_of_optax(tree):
    tree = jax.tree.map(jnp.asarray, tree)
    clips = clip_by_norm(2.0), optax.clip_by_global_norm(2.0)
    result, expected = (clip.update(tree, clip.init(tree))[0] for clip in clips)
    jax.tree.map(np.testing.assert_array_equal, result, expected)
    assert norm(tree) == optax.tree.norm(tree)


def test_clipping_has_a_derivative_at_zero():
    jacobian = jax.jacobian(lambda x: clip_by_norm(1.0).update(x, optax.EmptyState())[0])(jnp.zeros(2))
    np.testing.assert_array_equal(jacobian, np.eye(2))
    np.testing.assert_array_equal(jax.grad(norm)(jnp.zeros(2)), np.zeros(2))
