from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarule.meta.curvature import Curvature
from metarule.meta.levenberg import Penalty, Point, next_iterate, reduce_own, start_iterate, variances

ANIMALS, KINDS, SHARED, OWN = 4, ("weights", "choices"), 3, 2
COUNT = SHARED + OWN
VARIANCE = np.array([0.3, 1.0])


@pytest.fixture
def curvature(float64):
    """Of animals whose predictions are linear in the unknowns, the last of which has no effect on the last animal."""
    draw = np.random.default_rng(0)
    jacobian = draw.normal(size=(ANIMALS, len(KINDS), COUNT, 12))
    jacobian[-1, :, -1] = 0
    residual = draw.normal(size=(ANIMALS, len(KINDS), 12))
    curvature = Curvature(
        np.full((ANIMALS, len(KINDS)), 12.0),
        np.sum(residual**2, axis=-1) / 2,
        np.einsum("akun,akn->aku", jacobian, residual),
        np.einsum("akun,akvn->akuv", jacobian, jacobian),
    )
    return jax.tree.map(jnp.asarray, curvature)


@pytest.mark.parametrize("damping", [0.0, 0.7])
def test_eliminated_unknowns_give_the_solution_of_the_whole_system(curvature, damping):
    weights, whole = np.array([1.0, 2.0, 0.5, 1.0]), SHARED + ANIMALS * OWN
    matrix, right = np.zeros((whole, whole)), np.zeros(whole)
    for animal, weight in enumerate(weights):
        places = [*range(SHARED), *range(SHARED + animal * OWN, SHARED + (animal + 1) * OWN)]
        hessian = np.einsum("kuv,k->uv", np.asarray(curvature.hessian[animal]), 1 / VARIANCE)
        hessian[SHARED:, SHARED:] += damping * np.diag(np.diag(hessian[SHARED:, SHARED:]))
        matrix[np.ix_(places, places)] += weight * hessian
        right[places] -= weight * (1 / VARIANCE) @ np.asarray(curvature.gradient[animal])
    used = np.arange(whole - 1)  # but the unknown without effect
    expected = np.append(np.linalg.solve(matrix[np.ix_(used, used)], right[used]), 0.0)
    reduced = jax.tree.map(
        np.asarray, jax.jit(reduce_own, static_argnums=2)(curvature, jnp.asarray(VARIANCE), SHARED, damping)
    )
    shared = -np.linalg.solve(np.tensordot(weights, reduced.hessian, 1), weights @ reduced.gradient)
    own = reduced.offset + reduced.slope @ shared
    np.testing.assert_allclose(np.concatenate([shared, own.reshape(-1)]), expected, rtol=1e-9, atol=1e-12)


def test_the_variance_of_noise_is_the_most_likely_one(curvature):
    found = variances(KINDS, curvature, np.array([1.0, 0.0, 0.0, 2.0]), np.array([0.1, 0.1]))
    loss = curvature.loss[0, 0] + 2 * curvature.loss[3, 0]
    np.testing.assert_allclose(found, [2 * loss / 36 + 0.1, 1.0], rtol=1e-12)


# A line through three points of each animal; the last animal is not used.
X, Y = np.array([0.0, 1.0, 2.0]), np.array([[1.0, 2.0, 4.0], [0.0, 1.5, 2.0], [9.0, 9.0, -9.0]])
WEIGHTS = np.array([1.0, 1.0, 0.0])


def line(point, gap=0.0):
    """Curvature of animals that share their slope and have offsets of their own."""
    rows = jnp.stack([jnp.asarray(X), jnp.ones(3)])
    residual = point.shared[0] * rows[:1] + point.own - Y
    residual = residual.at[2].add(gap)
    hessian = jnp.broadcast_to(rows @ rows.T, (3, 1, 2, 2)).at[2].add(gap)
    loss = jnp.sum(residual**2, axis=1, keepdims=True) / 2
    return Curvature(jnp.full((3, 1), 3.0), loss, (residual @ rows.T)[:, None], hessian)


def diverging(point):
    """The last network diverges."""
    return line(point, np.nan)


def overshooting(point):
    curvature = line(point)
    return curvature._replace(hessian=curvature.hessian / 50)


def nowhere(point):
    return jax.tree.map(lambda leaf: leaf * np.nan, line(point))


@partial(jax.jit, static_argnums=(0, 1))
def iterates_of(evaluate, steps, ridge, l1):
    one = jnp.ones(1)
    start = start_iterate(Point(jnp.zeros(1), jnp.zeros((3, 1))), jnp.eye(1), 1, 1e-3)
    given = evaluate, ("activity",), jnp.eye(1), jnp.asarray(WEIGHTS), 1e-18 * one, Penalty(ridge * one, l1 * one, one)

    def step(iterate, _):
        after = next_iterate(iterate, *given, 1e-9)
        return after, after

    return jax.lax.scan(step, start, length=steps)[1]


def fitted(evaluate=line, ridge=0.0, l1=0.0, steps=60):
    return jax.tree.map(np.asarray, iterates_of(evaluate, steps, ridge, l1))


def last_of(*given, **options):
    return jax.tree.map(lambda leaf: leaf[-1], fitted(*given, **options))


def least_squares():
    matrix = np.zeros((6, 3))
    matrix[:, 0], matrix[:3, 1], matrix[3:, 2] = [*X, *X], 1, 1
    return np.linalg.lstsq(matrix, Y[:2].reshape(-1))


def test_steps_end_at_the_least_squares(float64):
    iterates, solution = fitted(), least_squares()
    np.testing.assert_allclose(iterates.point.shared[-1], solution[0][:1], rtol=1e-8)
    np.testing.assert_allclose(iterates.point.own[-1, :2, 0], solution[0][1:], rtol=1e-8, atol=1e-12)
    variance = solution[1][0] / 6
    np.testing.assert_allclose(iterates.objective[-1], 6 * np.log(variance) / 2, rtol=1e-9)
    assert np.all(np.diff(iterates.objective) <= 0)
    assert iterates.done[-1] and np.argmax(iterates.done) < 8


def test_an_animal_of_weight_zero_fits_its_own_unknowns_only(float64):
    last = last_of()
    np.testing.assert_allclose(last.point.own[2, 0], np.mean(Y[2] - last.point.shared[0] * X), rtol=1e-6)


def test_an_animal_of_weight_zero_that_diverges_does_not_count(float64):
    last = last_of(diverging)
    np.testing.assert_allclose(last.point.shared, least_squares()[0][:1], rtol=1e-8)
    assert last.point.own[2, 0] == 0


def test_a_rejected_step_raises_damping_and_keeps_the_point(float64):
    iterates = fitted(overshooting, steps=4)
    assert np.all(iterates.point.shared[1:3] == iterates.point.shared[0])
    np.testing.assert_allclose(iterates.damping[1:3] / iterates.damping[:2], 6.0)
    assert not iterates.done[3]


def test_a_start_that_diverges_ends_the_fit(float64):
    last = last_of(nowhere, steps=1)
    assert last.done and np.isinf(last.objective)


@pytest.mark.parametrize("strength", [1.0, 4.0])
def test_ridge_shrinks_to_the_stationary_point(strength, float64):
    last = last_of(ridge=strength)
    curvature = jax.tree.map(np.asarray, line(last.point))
    variance = 2 * curvature.loss[:2].sum() / 6
    slope = curvature.gradient[:2, 0, 0].sum() / variance
    np.testing.assert_allclose(slope, -strength * last.point.shared[0], rtol=1e-3)
    assert 0 < last.point.shared[0] < least_squares()[0][0]


def test_l1_leaves_a_small_coefficient_out(float64):
    assert abs(last_of(l1=100.0).point.shared[0]) < 1e-3
    assert last_of(l1=0.1).point.shared[0] > 1
