"""A small experiment that tests of runs share."""

import time
from functools import partial
from pathlib import Path

import jax

from metarule import Boolean, Feedforward, Gradient, InnerLoop, Polynomial
from metarule.runs.directory import start_run
from metarule.runs.experiment import Evaluation, Experiment, Run
from metarule.runs.files import write_json
from metarule.runs.theta_files import write_theta

EXPERIMENT = Experiment(
    seed=3,
    rule=Polynomial(terms=("seven",), initial={"pre*modulator": 0.1}, initial_spread=0.1),
    circuit=Feedforward(hidden=()),
    tasks=Boolean(inputs=2),
    inner_loop=InnerLoop(steps=20),
    optimizer=Gradient(steps=12, batch_size=4),
    # As many monitored as evaluated lifetimes, so that both use one compiled program.
    evaluation=Evaluation(lifetimes=16, points=2, monitor_every=5, monitor_lifetimes=16, baselines=("delta",)),
    run=Run(steps_per_call=4, checkpoint_every=6),
)
# One baseline in place of the default two, because each takes as long to compile as the learned rule.
OVERRIDES = {
    "optimizer.steps": "6",
    "optimizer.batch_size": "4",
    "inner_loop.steps": "20",
    "evaluation.lifetimes": "16",
    "evaluation.points": "2",
    "evaluation.monitor_lifetimes": "16",
    "evaluation.baselines": '["backprop"]',
}


# For tests that do not depend on the rule: no hidden neurons, and two terms.
SIMPLEST = OVERRIDES | {"circuit.hidden": "[]", "rule.terms": '["pre*modulator", "weight"]'}


def overrides(config: Path) -> dict[str, str]:
    """Overrides that make the run of a config small; schedules of conditioning cannot be shortened."""
    if "\nlengths = " in config.read_text(encoding="utf-8"):  # each length is a program; one config has two
        return OVERRIDES | {"optimizer.lengths": "[0.5, 1.0]" if config.stem == "digits" else "[1.0]"}
    if config.stem == "mixture":
        return OVERRIDES | {"rule.terms": SIMPLEST["rule.terms"]}
    closed = {"bandit": "reward_hebb", "navigation": "reinforce", "memory": "delta"}
    if config.stem in closed:
        return OVERRIDES | {"evaluation.baselines": f'["{closed[config.stem]}"]'}
    if 'tasks]\nkind = "conditioning"' in config.read_text(encoding="utf-8"):
        short = {field: value for field, value in OVERRIDES.items() if field != "inner_loop.steps"}
        # Animals of each schedule, at each of 39 timings and rates.
        short |= {"evaluation.lifetimes": "4", "evaluation.monitor_lifetimes": "4"}
        return short | {"evaluation.baselines": '["sutton_barto"]'}
    return OVERRIDES


def words(fields: dict[str, str]) -> list[str]:
    """The fields as words of a command line."""
    return [word for field, value in fields.items() for word in (f"--{field}", value)]


@partial(jax.jit, static_argnums=0)
def split(tasks, seed):
    """Both pools, computed by one program, because compiling each operation takes longer."""
    return tasks.split(seed)


@partial(jax.jit, static_argnums=(0, 1))
def training_task(tasks, number: int):
    """A training task, as one program."""
    return tasks.sample(jax.random.key(0), tasks.split(0).train, number)


@partial(jax.jit, static_argnums=0)
def initial_theta(learner):
    """The initial θ, as one program."""
    return learner.init_theta(jax.random.key(0))


def finished_run(path: Path, experiment: Experiment = EXPERIMENT, theta=None) -> Path:
    """Write the directory of a finished run without meta-training: a given or random θ, scores and a tuned rate."""
    start_run(path, experiment, given=None)
    learner = experiment.lifetime
    write_theta(path, learner, learner.init_theta(jax.random.key(5)) if theta is None else theta)
    score = {"mean": 0.5, "low": 0.4, "high": 0.6, "diverged": 0}
    other = score | {"difference": {"mean": 0.0, "low": -0.1, "high": 0.1}}
    held_out = {"metric": "solved", "of": "held-out tasks", "tasks": 8, "lifetimes": 16, "learned": score}
    held_out |= {"initial": other, "baselines": {"delta": other | {"learning_rate": 0.2}}}
    write_json(path / "summary.json", {"held_out": held_out})
    return path


def wait_for(rows: int, path: Path) -> None:
    """Wait until a number of meta-steps of a run is on disk."""
    metrics, deadline = path / "metrics.jsonl", time.monotonic() + 120
    while not (metrics.exists() and metrics.read_text().count("\n") >= rows) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert metrics.read_text().count("\n") >= rows
