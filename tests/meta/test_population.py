"""Every search: one battery on a problem whose optimum is known, and the promises of each."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from msgspec.structs import replace
from quadratic import OPTIMUM, SCALE, Quadratic
from small import EXPERIMENT

from metarule import CMAES, Annealing, Genetic, OpenES, RandomSearch
from metarule.lifetime.unroll import lifetime_loss
from metarule.meta import Sequence, advance, begin, phases, train
from metarule.meta.phases import advice, lifetimes_of, list_phases, resolved
from metarule.meta.population import PopulationState
from metarule.meta.training_tasks import draw_lifetime

KEY = jax.random.key(0)
LEARNER = Quadratic()
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
    return float(jnp.linalg.norm((theta - OPTIMUM) / SCALE))


def in_calls(search):
    """A run in three calls: (θ, observables, number of compiled programs)."""
    state, before, infos = begin(LEARNER, search, (), KEY), advance._cache_size(), []
    for count in (20, 30, 10):
        state, info = advance(list_phases(search, LEARNER)[0], (), state, KEY, count, 30)
        infos.append(jax.tree.map(lambda leaf, count=count: leaf[:count], info))
    joined = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *infos)
    return search.theta(state), joined, advance._cache_size() - before


def test_a_search_whose_library_is_not_installed_is_refused(monkeypatch):
    monkeypatch.setattr(phases, "find_spec", lambda name: None)
    for optimizer, kind in ((SEARCHES[0], "genetic"), (Sequence(), "cma_es")):
        with pytest.raises(ValueError, match=f"optimizer.kind = '{kind}': evosax is missing; install it with: pip"):
            list_phases(optimizer, LEARNER)


@pytest.fixture(scope="module")
def trained():
    return {type(search): in_calls(search) for search in SEARCHES}


@KINDS
def test_it_comes_close_to_the_optimum_in_the_parameter_scale(search, trained):
    nearest = 0.5 if isinstance(search, RandomSearch) else 0.1
    assert distance(trained[type(search)][0]) < nearest * distance(jnp.zeros(3))


@KINDS
def test_the_best_is_chosen_on_the_same_lifetimes(search, trained):
    theta, infos, _ = trained[type(search)]
    best = np.asarray(infos.observed["best_loss"])
    assert np.all(np.diff(best) <= 0)
    # Where the challenger is better it is the best, and its loss is the best loss.
    replaced = np.flatnonzero(np.diff(best) < 0) + 1
    assert len(replaced) > 3
    np.testing.assert_array_equal(best[replaced], np.asarray(infos.loss)[replaced])
    np.testing.assert_array_equal(infos.theta[-1], theta)
    key = begin(LEARNER, search, (), KEY).validation
    drawn = lambda number: draw_lifetime(LEARNER, (), "all", search.validation, 0, number, key)
    loss = jax.jit(jax.vmap(lambda number: lifetime_loss(LEARNER, theta, *drawn(number))[0]))
    assert float(np.mean(loss(jnp.arange(search.validation)))) == pytest.approx(float(best[-1]), rel=1e-5)


def test_all_candidates_of_a_generation_run_the_same_lifetimes():
    search = SEARCHES[0]
    losses = np.asarray(jax.jit(lambda: search._run(LEARNER, (), KEY, 8, jnp.zeros((), int), jnp.zeros((4, 3)))[0])())
    np.testing.assert_array_equal(losses, np.broadcast_to(losses[0], (4, 8)))
    assert len(set(losses[0].tolist())) > 1


@KINDS
def test_one_program_serves_every_call(search, trained):
    assert trained[type(search)][2] == 1


def test_the_result_depends_on_neither_calls_nor_chunks(trained):
    search = SEARCHES[0]
    few = jax.jit(lambda: train(LEARNER, replace(search, chunk_size=3), (), KEY))()[0]
    np.testing.assert_allclose(few, trained[type(search)][0], rtol=1e-4, atol=1e-6)


def test_runs_that_share_the_memory_have_smaller_chunks():
    assert resolved(SEARCHES[0], LEARNER, runs=10)[0].chunk_size == 102
    assert resolved(SEARCHES[0], LEARNER, runs=10_000)[0].chunk_size == 1


def test_memory_is_bounded_by_the_chunk_size():
    fields = SMALL | {"population": 4, "batch_size": 512, "validation": 2048}

    def temporary(chunk_size):
        search, learner = RandomSearch(**fields, chunk_size=chunk_size), EXPERIMENT.lifetime
        state = jax.eval_shape(lambda: begin(learner, search, POOL, KEY))
        compiled = jax.jit(lambda state: search.step(learner, POOL, state, KEY)).lower(state).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary(16) < 0.1 * temporary(4096)


@partial(jax.jit, static_argnames="search")
def bounded(search, bound):
    return train(Quadratic(bound=bound), search, (), KEY)


@KINDS
def test_a_candidate_that_diverges_is_counted_and_not_chosen(search):
    theta, infos = bounded(search, 0.1)
    assert int(jnp.sum(infos.nonfinite_lifetimes)) > 0
    assert np.all(np.asarray(infos.nonfinite_lifetimes) % search.batch_size == 0)
    assert 0 < int(infos.lifetimes[0]) == search.population * search.batch_size
    assert float(theta[0]) <= 0.1
    assert distance(theta) < distance(jnp.zeros(3))


@KINDS
def test_theta_does_not_change_where_every_lifetime_diverges(search):
    theta, infos = bounded(search, -1e9)
    np.testing.assert_array_equal(theta, np.zeros(3))
    np.testing.assert_array_equal(infos.nonfinite_lifetimes, infos.lifetimes)


@KINDS
def test_hyper_parameters_may_be_data(search, trained):
    def theta(spread):
        return train(LEARNER, replace(search, spread=spread), (), KEY)[0]

    thetas = jax.jit(jax.vmap(theta))(jnp.array([0.1, search.spread]))
    np.testing.assert_allclose(thetas[1], trained[type(search)][0], rtol=1e-3, atol=1e-5)
    assert not np.allclose(*thetas, rtol=1e-3, atol=1e-5)


@KINDS
def test_its_lifetimes_are_counted(search):
    assert lifetimes_of(search) == 16 + 60 * (16 * 8 + 16)
    assert lifetimes_of(search, 1) == 16 + 16 * 8 + 16


@partial(jax.jit, static_argnames="search")
def stepped(search, state):
    return search.step(LEARNER, (), state, KEY)


def test_runs_side_by_side_decompose_one_matrix_at_a_time():
    # Batches of them on several devices of a CPU can wait for each other forever (jaxlib 0.10).
    states = jax.vmap(lambda key: begin(LEARNER, CMAES(**SMALL), (), key))(jax.random.split(KEY, 3))
    text = str(jax.make_jaxpr(jax.vmap(lambda state: CMAES(**SMALL).step(LEARNER, (), state, KEY)[0]))(states))
    assert re.findall(r"f32\[([0-9,]*)\] \S+ = eigh\[", text) == ["3,3"]


def test_the_best_is_among_the_children():
    search = replace(SEARCHES[0], steps=3)
    state, best = begin(LEARNER, search, (), KEY), []
    for _ in range(3):
        best.append(state.best / SCALE)
        state, _ = stepped(search, state)
        np.testing.assert_allclose(state.search.population[0], best[-1], rtol=1e-6)
    assert not np.allclose(best[-1], best[0])


def test_annealing_accepts_worse_steps_at_a_high_temperature_only():
    for temperature, moves in ((1e-9, False), (1e9, True)):
        search = Annealing(**SMALL, temperature=temperature)
        state: PopulationState = begin(LEARNER, search, (), KEY)
        at_optimum = state._replace(search=state.search.replace(mean=OPTIMUM / SCALE))
        after, _ = stepped(search, at_optimum)
        assert np.allclose(after.search.mean, OPTIMUM / SCALE) is not moves


def test_annealing_compares_losses_of_the_same_lifetimes():
    search = Annealing(**SMALL, temperature=1e-9)
    state = begin(LEARNER, search, (), KEY)
    lucky = state._replace(search=state.search.replace(fitness=jnp.asarray(-1e9)))
    after, _ = stepped(search, lucky)
    assert not np.allclose(after.search.mean, 0)


def test_mutations_shrink():
    _, infos = jax.jit(lambda: train(LEARNER, replace(SEARCHES[0], spread=0.2, shrink=0.1), (), KEY))()
    spread = np.asarray(infos.observed["spread"])
    assert spread[0] == pytest.approx(0.2, rel=1e-5)
    assert spread[-1] == pytest.approx(0.02, rel=0.1)


def test_pairs_need_an_even_population():
    with pytest.raises(ValueError, match="population = 15: candidates come in pairs here; allowed: an even number"):
        OpenES(population=15)


def test_advice_names_the_field():
    assert advice(Genetic(spread=0.2), LEARNER) == ("--optimizer.spread below 0.2",)
