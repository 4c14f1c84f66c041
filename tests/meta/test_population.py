"""Every search: one battery on a problem whose optimum is known, and what each promises besides."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from msgspec.structs import replace
from quadratic import OPTIMUM, UNITS, Quadratic
from small import EXPERIMENT

from metarule import CMAES, Annealing, Genetic, OpenES, RandomSearch
from metarule.lifetime.unroll import lifetime_loss
from metarule.meta import advance, begin, train
from metarule.meta.phases import advice, lifetimes_of, phases, resolved
from metarule.meta.population import PopulationState
from metarule.meta.training_tasks import draw_lifetime

KEY = jax.random.key(0)
LIFE = Quadratic()
POOL = EXPERIMENT.tasks.split(0).train
SMALL = {"steps": 60, "population": 16, "batch_size": 8, "validation": 16, "spread": 0.3}
SEARCHES = [
    Genetic(**SMALL),
    Annealing(**SMALL),
    CMAES(**SMALL),
    OpenES(**SMALL, learning_rate=0.05),
    RandomSearch(**SMALL),
]
KINDS = pytest.mark.parametrize("search", SEARCHES, ids=lambda search: type(search).__name__)


def distance(theta):
    return float(jnp.linalg.norm((theta - OPTIMUM) / UNITS))


def in_calls(search):
    """A run in three calls: (θ, what was seen, how many programs it took)."""
    state, before, seen = begin(LIFE, search, (), KEY), advance._cache_size(), []
    for count in (20, 30, 10):
        state, info = advance(phases(search, LIFE)[0], (), state, KEY, count, 30)
        seen.append(jax.tree.map(lambda leaf, count=count: leaf[:count], info))
    together = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *seen)
    return search.theta(state), together, advance._cache_size() - before


@pytest.fixture(scope="module")
def trained():
    return {type(search): in_calls(search) for search in SEARCHES}


@KINDS
def test_it_comes_close_to_the_optimum_in_the_units_of_theta(search, trained):
    nearest = 0.5 if isinstance(search, RandomSearch) else 0.1
    assert distance(trained[type(search)][0]) < nearest * distance(jnp.zeros(3))


@KINDS
def test_the_best_is_decided_on_lives_that_stay_the_same(search, trained):
    theta, seen, _ = trained[type(search)]
    best = np.asarray(seen.observed["best_loss"])
    assert np.all(np.diff(best) <= 0)
    # Where the challenger is better it is the best, and its loss is what is observed of it.
    taken = np.flatnonzero(np.diff(best) < 0) + 1
    assert len(taken) > 3
    np.testing.assert_array_equal(best[taken], np.asarray(seen.loss)[taken])
    np.testing.assert_array_equal(seen.theta[-1], theta)
    key = begin(LIFE, search, (), KEY).validation
    lived = lambda number: lifetime_loss(
        LIFE, theta, *draw_lifetime(LIFE, (), "all", search.validation, 0, number, key)
    )[0]
    again = jax.jit(jax.vmap(lived))(jnp.arange(search.validation))
    assert float(np.mean(again)) == pytest.approx(float(best[-1]), rel=1e-5)


def test_all_candidates_of_a_generation_live_the_same_lives():
    search = SEARCHES[0]
    losses = np.asarray(jax.jit(lambda: search._run(LIFE, (), KEY, 8, jnp.zeros((), int), jnp.zeros((4, 3)))[0])())
    np.testing.assert_array_equal(losses, np.broadcast_to(losses[0], (4, 8)))
    assert len(set(losses[0].tolist())) > 1


@KINDS
def test_one_program_serves_every_call(search, trained):
    assert trained[type(search)][2] == 1


def test_what_is_found_depends_on_neither_calls_nor_lives_side_by_side(trained):
    search = SEARCHES[0]
    few = jax.jit(lambda: train(LIFE, replace(search, chunk_size=3), (), KEY))()[0]
    np.testing.assert_allclose(few, trained[type(search)][0], rtol=1e-4, atol=1e-6)


def test_runs_that_share_the_memory_have_fewer_lives_side_by_side_each():
    assert resolved(SEARCHES[0], LIFE, runs=10)[0].chunk_size == 102
    assert resolved(SEARCHES[0], LIFE, runs=10_000)[0].chunk_size == 1


def test_memory_is_bounded_by_the_lives_side_by_side():
    fields = SMALL | {"population": 4, "batch_size": 512, "validation": 2048}

    def temporary(chunk_size):
        search, context = RandomSearch(**fields, chunk_size=chunk_size), EXPERIMENT.lifetime
        state = jax.eval_shape(lambda: begin(context, search, POOL, KEY))
        compiled = jax.jit(lambda state: search.step(context, POOL, state, KEY)).lower(state).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary(16) < 0.1 * temporary(4096)


@partial(jax.jit, static_argnames="search")
def bounded(search, bound):
    return train(Quadratic(bound=bound), search, (), KEY)


@KINDS
def test_a_candidate_that_diverges_is_counted_and_not_kept(search):
    theta, seen = bounded(search, 0.1)
    assert int(jnp.sum(seen.nonfinite_lifetimes)) > 0
    assert np.all(np.asarray(seen.nonfinite_lifetimes) % search.batch_size == 0)
    assert 0 < int(seen.lifetimes[0]) == search.population * search.batch_size
    assert float(theta[0]) <= 0.1
    assert distance(theta) < distance(jnp.zeros(3))


@KINDS
def test_where_every_life_diverges_theta_stays_where_it_was(search):
    theta, seen = bounded(search, -1e9)
    np.testing.assert_array_equal(theta, np.zeros(3))
    np.testing.assert_array_equal(seen.nonfinite_lifetimes, seen.lifetimes)


@KINDS
def test_hyper_parameters_may_be_data(search, trained):
    def found(spread):
        return train(LIFE, replace(search, spread=spread), (), KEY)[0]

    together = jax.jit(jax.vmap(found))(jnp.array([0.1, search.spread]))
    np.testing.assert_allclose(together[1], trained[type(search)][0], rtol=1e-3, atol=1e-5)
    assert not np.allclose(*together, rtol=1e-3, atol=1e-5)


@KINDS
def test_it_costs_what_it_says(search):
    assert lifetimes_of(search) == 16 + 60 * (16 * 8 + 16)
    assert lifetimes_of(search, 1) == 16 + 16 * 8 + 16


@partial(jax.jit, static_argnames="search")
def stepped(search, state):
    return search.step(LIFE, (), state, KEY)


def test_the_best_lives_again_among_the_children():
    search = replace(SEARCHES[0], steps=3)
    state, best = begin(LIFE, search, (), KEY), []
    for _ in range(3):
        best.append(state.best / UNITS)
        state, _ = stepped(search, state)
        np.testing.assert_allclose(state.search.population[0], best[-1], rtol=1e-6)
    assert not np.allclose(best[-1], best[0])


def test_a_frozen_annealing_takes_nothing_worse_and_a_hot_one_everything():
    for temperature, moves in ((1e-9, False), (1e9, True)):
        search = Annealing(**SMALL, temperature=temperature)
        state: PopulationState = begin(LIFE, search, (), KEY)
        there = state._replace(search=state.search.replace(mean=OPTIMUM / UNITS))
        after, _ = stepped(search, there)
        assert np.allclose(after.search.mean, OPTIMUM / UNITS) is not moves


def test_annealing_does_not_remember_what_theta_was_worth_on_other_lives():
    search = Annealing(**SMALL, temperature=1e-9)
    state = begin(LIFE, search, (), KEY)
    lucky = state._replace(search=state.search.replace(fitness=jnp.asarray(-1e9)))
    after, _ = stepped(search, lucky)
    assert not np.allclose(after.search.mean, 0)


def test_mutations_shrink():
    _, seen = jax.jit(lambda: train(LIFE, replace(SEARCHES[0], spread=0.2, shrink=0.1), (), KEY))()
    spread = np.asarray(seen.observed["spread"])
    assert spread[0] == pytest.approx(0.2, rel=1e-5)
    assert spread[-1] == pytest.approx(0.02, rel=0.1)


def test_pairs_need_an_even_population():
    with pytest.raises(ValueError, match="population = 15: candidates come in pairs here; allowed: an even number"):
        OpenES(population=15)


def test_what_a_person_may_try_names_the_field():
    assert advice(Genetic(spread=0.2), LIFE) == ("--optimizer.spread below 0.2",)
