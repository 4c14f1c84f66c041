import jax
import jax.numpy as jnp
import numpy as np
import pytest
from msgspec.structs import replace

from metarule import (
    CMAES,
    Boolean,
    Conditioning,
    ConditioningCircuit,
    Feedforward,
    Gradient,
    InnerLoop,
    Lifetime,
    Polynomial,
)
from metarule.meta import advance, begin, list_phases, train
from metarule.meta.phases import lifetimes_of, phase_at
from metarule.runs.experiment import Experiment

LEARNER = Lifetime(
    rule=Polynomial(initial={"pre*modulator": 0.2}, initial_spread=0.1),
    circuit=Feedforward(hidden=()),
    tasks=Boolean(inputs=2),
    inner_loop=InnerLoop(steps=30),
)
OPTIMIZER = Gradient(steps=6, batch_size=8, learning_rate=1e-2)
POOL = LEARNER.tasks.split(0).train
KEY = jax.random.key(3)
(PHASE,) = list_phases(OPTIMIZER, LEARNER)


def assert_same(one, two):
    jax.tree.map(np.testing.assert_array_equal, one, two)


def advanced(counts, capacity=6, optimizer=OPTIMIZER):
    state, infos = begin(LEARNER, optimizer, POOL, KEY), []
    for count in counts:
        state, info = advance(list_phases(optimizer, LEARNER)[0], POOL, state, KEY, count, capacity)
        infos.append(jax.tree.map(lambda leaf, count=count: leaf[:count], info))
    return state, jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *infos)


def test_results_do_not_depend_on_the_steps_of_a_call():
    assert_same(advanced([6]), advanced([1, 3, 2]))


def test_drawn_lengths_do_not_depend_on_the_steps_of_a_call():
    drawing = replace(OPTIMIZER, lengths=(1.0, 2.0))
    assert_same(advanced([6], optimizer=drawing), advanced([1, 3, 2], optimizer=drawing))


def test_one_program_serves_every_number_of_steps():
    before = advance._cache_size()
    advanced([1, 2, 3], capacity=5)
    assert advance._cache_size() - before == 1


def test_meta_steps_transfer_nothing_between_host_and_device():
    state, count = jax.device_put((begin(LEARNER, OPTIMIZER, POOL, KEY), np.int32(2)))
    state, _ = advance(PHASE, POOL, state, KEY, count, 6)
    with jax.transfer_guard("disallow"):
        jax.block_until_ready(advance(PHASE, POOL, state, KEY, count, 6))


def test_the_state_after_takes_the_memory_of_the_state_before():
    before = begin(LEARNER, OPTIMIZER, POOL, KEY)
    advance(PHASE, POOL, before, KEY, 2, 6)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before.iterate))


@pytest.mark.parametrize(
    ("optimizer", "bfloat16"),
    [(OPTIMIZER, False), (OPTIMIZER, True), (CMAES(steps=2, population=4, batch_size=4, validation=4), False)],
    ids=["gradient", "bfloat16", "search"],
)
def test_a_meta_step_lowers_for_accelerators(optimizer, bfloat16):
    learner = replace(LEARNER, inner_loop=replace(LEARNER.inner_loop, bfloat16=bfloat16))
    traced = advance.trace(list_phases(optimizer, learner)[0], POOL, begin(learner, optimizer, POOL, KEY), KEY, 1, 2)
    for platform in ("cuda", "tpu"):
        assert "stablehlo.while" in traced.lower(lowering_platforms=(platform,)).as_text()


def test_no_steps_change_nothing():
    begun = lambda: begin(LEARNER, OPTIMIZER, POOL, KEY)
    assert_same(advance(PHASE, POOL, begun(), KEY, 0, 6)[0], begun())


@jax.jit
def trained(key):
    return train(LEARNER, OPTIMIZER, POOL, key)


def test_train_takes_the_steps_that_advance_takes():
    theta, infos = trained(KEY)
    state, expected = advanced([6])
    np.testing.assert_allclose(theta, state.iterate.theta, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(infos.loss, expected.loss, rtol=1e-5)


def test_seeds_may_be_a_vmapped_axis():
    keys = jax.random.split(jax.random.key(0), 3)
    thetas = jax.jit(jax.vmap(lambda key: train(LEARNER, OPTIMIZER, POOL, key)[0]))(keys)
    expected = jnp.stack([trained(key)[0] for key in keys])
    np.testing.assert_allclose(thetas, expected, rtol=1e-4, atol=1e-5)
    assert len(np.unique(np.asarray(thetas)[:, 0])) == 3


def test_the_same_seed_gives_the_same_theta():
    assert_same(advanced([6])[0], advanced([6])[0])


def test_meta_training_lowers_the_meta_loss():
    optimizer = Gradient(steps=60, batch_size=16, learning_rate=2e-2)
    _, infos = jax.jit(lambda key: train(LEARNER, optimizer, POOL, key))(KEY)
    assert np.mean(infos.loss[-10:]) < 0.7 * np.mean(infos.loss[:10])


def test_the_curriculum_sets_the_length_of_lifetimes():
    optimizer = replace(OPTIMIZER, curriculum=(0.1, 0.5, 1.0), steps=7)
    plan = list_phases(optimizer, LEARNER)
    assert [(phase.learner.steps, phase.end) for phase in plan] == [(3, 2), (15, 4), (30, 7)]
    assert [phase_at(plan, step).end for step in (0, 1, 2, 4, 6)] == [2, 2, 4, 7, 7]
    assert plan[-1].learner == LEARNER
    assert lifetimes_of(optimizer) == 7 * 8


def test_a_curriculum_is_the_same_in_one_call_and_phase_by_phase():
    optimizer = replace(OPTIMIZER, curriculum=(0.1, 1.0), steps=3)
    theta, infos = jax.jit(lambda key: train(LEARNER, optimizer, POOL, key))(KEY)
    state, start = begin(LEARNER, optimizer, POOL, KEY), 0
    for phase in list_phases(optimizer, LEARNER):
        count = phase.end - start
        state, info = advance(phase, POOL, state, KEY, count, 6)
        np.testing.assert_allclose(info.loss[:count], infos.loss[start : phase.end], rtol=1e-5)
        start = phase.end
    np.testing.assert_allclose(theta, state.iterate.theta, rtol=1e-5, atol=1e-7)


def test_lifetimes_too_short_for_their_tasks_are_refused():
    components = {"circuit": ConditioningCircuit(), "tasks": Conditioning(), "inner_loop": InnerLoop(steps=520)}
    message = r"optimizer.curriculum = \[0.1, 1.0\]: its shortest lifetimes have 52 steps; these"
    with pytest.raises(ValueError, match=message):
        Experiment(**components, optimizer=Gradient(curriculum=(0.1, 1.0)))
