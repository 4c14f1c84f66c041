"""Path efficiency trial by trial."""

import jax
import numpy as np
import pytest
from inking import inked
from small import finished_run

from benchmarks import trials
from metarule import InnerLoop, Navigation
from metarule.analysis.agents import QLearning
from metarule.analysis.evaluation import learning_curves
from metarule.analysis.tuning import theta_at_rate

pytestmark = pytest.mark.drawn


def test_trials_are_those_that_the_task_counts():
    tasks, steps = Navigation(size=3, timeout=6), 40
    agent = QLearning(tasks=tasks, inner_loop=InnerLoop(steps=steps, online_loss_weight=1.0))
    theta, pool, key = theta_at_rate(agent, 0.5, 0.5), tasks.split(0).test, jax.random.key(0)
    curves = np.asarray(trials.by_trial(agent, theta, pool, key, 8, 20, steps))
    final = {name: values[:, -1] for name, values in learning_curves(agent, theta, pool, key, 8, 1).metrics.items()}
    np.testing.assert_array_equal(np.sum(curves > 0, axis=1), final["goals"])
    for curve, count, last in zip(curves, final["trials"], final["last"], strict=True):
        assert curve[int(count) - 1] == last
        assert np.all(curve[int(count) :] == 0)


def test_trials_are_drawn_for_one_seed_and_for_several(tmp_path):
    for seeds in (1, 3):
        efficiencies = {name: np.random.default_rng(0).random((seeds, 9)) for name in ("learned", "reinforce")}
        trials.draw_trials(tmp_path / f"{seeds}.png", efficiencies, 2 / 3, "title")
        assert inked(tmp_path / f"{seeds}.png")


def test_a_run_on_other_tasks_is_refused(tmp_path, capsys):
    assert trials.main(["--run", str(finished_run(tmp_path / "run"))]) == 2
    assert "its tasks are no `navigation`" in capsys.readouterr().err
