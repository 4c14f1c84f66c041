from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import assert_lifetimes_are_compiled

from metarule import Feedforward, InnerLoop, Lifetime, Polynomial
from metarule.protocols import ClosedLoop
from metarule.tasks import Navigation
from metarule.tasks.navigation import NavigationTask

KEY = jax.random.key(0)
NORTH, EAST, SOUTH, WEST = range(4)
SMALL = Navigation(size=3, timeout=4)
TO_GOAL = NavigationTask(goal=jnp.array([2.0, 1.0]), start=jnp.array([0.0, 0.0]))


@partial(jax.jit, static_argnums=0)
def replay(family, task, actions, key=KEY):
    """States after each of some given actions, and the rewards."""

    def step(carry, action):
        t, state = carry
        reaction = family.react(task, state, jax.nn.one_hot(action, 4), jax.random.fold_in(key, t))
        return (t + 1, reaction.state), (reaction.state, reaction.reward)

    return jax.lax.scan(step, (0, family.start(task)), jnp.asarray(actions))[1]


def scores_after(states, step):
    state = jax.tree.map(lambda leaf: leaf[step], states)
    return {name: float(value) for name, value in SMALL.scores(TO_GOAL, state).items()}


def test_is_a_closed_loop():
    assert isinstance(Navigation(), ClosedLoop)


@pytest.mark.parametrize(
    ("start", "ends"),
    [
        ((0, 0), [(0, 1), (1, 0), (0, 0), (0, 0)]),
        ((2, 2), [(2, 2), (2, 2), (2, 1), (1, 2)]),
        ((1, 1), [(1, 2), (2, 1), (1, 0), (0, 1)]),
    ],
)
def test_moves_into_a_wall_leave_the_position(start, ends):
    task = NavigationTask(goal=jnp.array([0.0, 2.0]), start=jnp.array(start, float))
    for action, end in enumerate(ends):
        states, reward = replay(SMALL, task, [action])
        np.testing.assert_array_equal(states.position[0], end)
        assert reward[0] == 0


def test_the_goal_gives_the_reward_and_ends_the_trial():
    states, rewards = replay(SMALL, TO_GOAL, [NORTH, EAST, EAST, WEST])
    np.testing.assert_array_equal(rewards, [0, 0, 1, 0])
    np.testing.assert_array_equal(states.trials, [0, 0, 1, 1])
    np.testing.assert_array_equal(states.trial_steps, [1, 2, 0, 1])
    np.testing.assert_array_equal(states.position[:2], [(0, 1), (1, 1)])
    assert not np.array_equal(states.position[2], TO_GOAL.goal)
    assert states.distance[2] == np.abs(states.position[2] - TO_GOAL.goal).sum()
    assert set(scores_after(states, 1).values()) == {0}
    assert scores_after(states, 2) == pytest.approx(
        {"efficiency": 1, "trials": 1, "goals": 1, "last": 1, "reward": 1 / 3}
    )


def test_a_detour_is_less_efficient():
    states, rewards = replay(SMALL, TO_GOAL, [WEST, EAST, NORTH, EAST])
    np.testing.assert_array_equal(rewards, [0, 0, 0, 1])  # the goal in the last step is no timeout
    assert scores_after(states, 3) == pytest.approx(
        {"efficiency": 3 / 4, "trials": 1, "goals": 1, "last": 3 / 4, "reward": 1 / 4}
    )


def test_a_trial_ends_at_the_timeout():
    states, rewards = replay(SMALL, TO_GOAL, [SOUTH] * 4)
    np.testing.assert_array_equal(rewards, 0)
    np.testing.assert_array_equal(states.trials, [0, 0, 0, 1])
    np.testing.assert_array_equal(states.trial_steps, [1, 2, 3, 0])
    assert scores_after(states, 3) == {"efficiency": 0, "trials": 1, "goals": 0, "last": 0, "reward": 0}


def test_starts_are_all_cells_but_the_goal_with_equal_chances():
    goal, count = 5, 8000

    def starts(key):
        task = SMALL.sample(key, SMALL.split(0).train._replace(members=jnp.full(9, goal)), 0)
        there = SMALL.start(task)._replace(position=jnp.array([1.0, 1.0]))
        return task.start, SMALL.react(task, there, jax.nn.one_hot(EAST, 4), key).state.position

    for places in jax.jit(jax.vmap(starts))(jax.random.split(KEY, count)):
        cells = np.asarray(places[:, 1] * 3 + places[:, 0], int)
        counts = np.bincount(cells, minlength=9)
        assert counts[goal] == 0
        assert np.all(np.abs(np.delete(counts, goal) - count / 8) < 5 * np.sqrt(count * 7 / 64))


def test_scores_of_a_random_walk_are_those_of_its_path():
    family = Navigation(size=4, timeout=12)
    task = jax.jit(family.sample)(KEY, family.split(0).train, 2)
    states, rewards = replay(family, task, jax.random.randint(KEY, (400,), 0, 4))
    last = family.scores(task, jax.tree.map(lambda leaf: leaf[-1], states))
    rewards, positions = np.asarray(rewards), np.asarray(states.position)
    begin, start, paths = 0, task.start, []
    for t in range(400):
        if rewards[t] or t + 1 - begin == 12:
            paths.append(rewards[t] * np.abs(start - task.goal).sum() / (t + 1 - begin))
            begin, start = t + 1, positions[t]
    average = 0.0
    for number, path in enumerate(paths, start=1):
        average += (path - average) / min(number, 5)
    assert 0 < rewards.sum() < len(paths)
    assert {name: float(value) for name, value in last.items()} == pytest.approx(
        {
            "efficiency": average,
            "trials": len(paths),
            "goals": rewards.sum(),
            "last": paths[-1],
            "reward": rewards.mean(),
        },
        rel=1e-5,
    )


def test_the_shortest_paths_have_efficiency_1():
    family = Navigation()

    def efficiencies(key, index):
        task = family.sample(key, family.split(0).train, index)

        def step(state, t):
            right, up = task.goal - state.position
            across = jnp.where(right > 0, EAST, WEST)
            action = jnp.where(right != 0, across, jnp.where(up > 0, NORTH, SOUTH))
            reaction = family.react(task, state, jax.nn.one_hot(action, 4), jax.random.fold_in(key, t))
            return reaction.state, family.scores(task, reaction.state)

        return jax.lax.scan(step, family.start(task), jnp.arange(60))[1]

    scores = jax.jit(jax.vmap(efficiencies))(jax.random.split(KEY, 15), jnp.arange(15))
    trials = np.asarray(scores["trials"])
    assert np.all(trials[:, -1] >= 7)
    np.testing.assert_array_equal(scores["goals"], trials)
    np.testing.assert_array_equal(np.asarray(scores["efficiency"])[trials > 0], 1)
    np.testing.assert_array_equal(np.asarray(scores["last"])[trials > 0], 1)


@pytest.mark.parametrize("width", [0, 0.5, 2])
def test_place_cells_are_active_around_their_cell(width):
    family, position = Navigation(size=3, place_width=width), np.array([2.0, 1.0])
    state = SMALL.start(TO_GOAL)._replace(position=jnp.asarray(position, float))
    activity = family.sense(TO_GOAL, state, family.stimulus(TO_GOAL, 0, KEY)).input
    cells = np.array([(x, y) for y in range(3) for x in range(3)])
    squares = ((cells - position) ** 2).sum(axis=1)
    expected = np.exp(-squares / (2 * width**2)) if width else squares == 0
    np.testing.assert_allclose(activity, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "counts"),
    [({}, (15, 10)), ({"size": 3, "test_fraction": 0.01}, (8, 1)), ({"size": 3, "test_fraction": 0.99}, (1, 8))],
)
def test_goals_of_both_pools_are_all_cells(fields, counts):
    family = Navigation(**fields)
    chosen = set()
    for seed in (0, 1):
        split = family.split(seed)
        tasks = [jax.vmap(lambda i, pool=pool: family.sample(KEY, pool, i))(jnp.arange(50)) for pool in split]
        train, test = ({int(y * family.size + x) for x, y in one.goal} for one in tasks)
        assert (len(train), len(test)) == counts
        assert train | test == set(range(family.size**2))
        assert train == {int(family.task_id(split.train, index)) for index in range(50)}
        chosen.add(tuple(sorted(test)))
    assert len(chosen) == 2


@pytest.mark.parametrize("width", [0.0, 1.0])
def test_lifetimes_are_compiled(width):
    learner = Lifetime(
        rule=Polynomial(terms=("delta",), initial={"delta": 0.1}),
        circuit=Feedforward(hidden=(), output="choice"),
        tasks=Navigation(size=3, timeout=6, place_width=width),
        inner_loop=InnerLoop(steps=30, online_loss_weight=1.0),
    )
    assert_lifetimes_are_compiled(learner)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"place_width": 0.05}, "place_width = 0.05: allowed: 0, or from 0.1"),
        ({"timeout": 7}, "timeout = 7: the goal is up to 8 steps away; allowed: from 8"),
        ({"size": 2}, "size"),
        ({"test_fraction": 1.0}, "test_fraction"),
    ],
)
def test_grids_that_cannot_be_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Navigation(**fields)
