"""Made-up results of runs, of which reports are made without training."""

import numpy as np
from msgspec.structs import replace
from small import EXPERIMENT

from metarule.runs.directory import start_run
from metarule.runs.files import write_json
from metarule.runs.metrics import append_metrics

EQUATION = "Δw = 0.5·pre·modulator − 1e-05·post²·weight"
THETA = {"pre*modulator": 0.5, "post^2*weight": -1e-05}
# Text that would be a program, were it not escaped.
EVIL = "<script>oops()</script>"


def difference(mean):
    return {"mean": mean, "low": mean - 0.01, "high": mean + 0.01}


def row(mean, gain=None, **more):
    """Row of a contender; `gain` is the difference of the learned rule from it."""
    ends = {"mean": mean, "low": mean - 0.02, "high": mean + 0.02}
    steps = {"at": 10, "low": 10, "high": None}
    own = ends | {"diverged": 0, "steps_to_threshold": steps, "shots": {}, "horizon": {"1": ends, "2": ends}}
    return own | more | ({} if gain is None else {"difference": difference(gain)})


def held_out(name="delta"):
    """Held-out part of a summary in which the learned rule is below one baseline, and even with a second one."""
    baselines = {
        name: row(0.95, -0.1, learning_rate=0.2, tuning_lifetimes=48),
        "backprop": row(0.86, -0.005, learning_rate=1.5, tuning_lifetimes=48),
    }
    of = {"metric": "solved", "of": "held-out tasks", "tasks": 8, "lifetimes": 16, "threshold": 0.9}
    return of | {"learned": row(0.85), "initial": row(0.5, 0.35), "baselines": baselines}


def metrics(steps=12):
    """Rows of metrics, of which one step is rejected and two are monitored."""
    rows = [
        {"step": step, "loss": 1 / step, "lifetimes": 4, "nonfinite_lifetimes": 0, "zero_gradient_lifetimes": 1}
        | {"rejected": step == 3, "theta": [0.5 * step / steps, -1e-05]}
        for step in range(1, steps + 1)
    ]
    for one in (rows[4], rows[-1]):
        one |= {"held_out": {"solved": 0.8, "diverged": 0.0}, "lyapunov_exponent": {"median": -0.02, "largest": 0.01}}
    return rows


def performance(name="delta"):
    """Scores along lifetimes of 20 steps, and after two of them."""
    curve = np.array([0.5, 0.7, 0.8, 0.85])
    bands = {"mean": curve, "low": curve - 0.02, "high": curve + 0.02}
    names = ("learned", name, "backprop", "initial")
    return {"steps": [0, 10, 20, 40], "score": "solved", "contenders": dict.fromkeys(names, bands)}


def reported_run(path, experiment=EXPERIMENT, name="delta", finished=True):
    """Write the directory of a run of one seed, with made-up results."""
    start_run(path, experiment, given=f"# {name}\n")
    append_metrics(path, metrics(12 if finished else 5))
    if finished:
        summary = {"seed": experiment.seed, "steps": 12, "theta": THETA, "equation": EQUATION}
        summary |= {"meta_loss": {"first": 1.0, "last": 0.1}, "rejected_steps": 1, "nonfinite_lifetimes": 0}
        summary |= {"zero_gradient_lifetimes": 12, "held_out": held_out(name), "seconds": {"total": 1.0}}
        write_json(path / "performance.json", performance(name))
        write_json(path / "theta.json", {"names": list(THETA), "equation": EQUATION})
        write_json(path / "summary.json", summary)
    return path


def reported_seeds(path, finished=2):
    """Write the directory of two seeds, of which some are finished."""
    start_run(path, replace(EXPERIMENT, seeds=2), given=None)
    for number, seed in enumerate((3, 4)):
        reported_run(path / f"s{seed}", EXPERIMENT.of_seed(seed), finished=number < finished)
    if finished == 2:
        report = held_out() | {"seeds": 2}
        for one in (report["learned"], report["initial"], *report["baselines"].values()):
            one |= {"by_seed": [one["mean"], one["mean"]]}
        write_json(path / "summary.json", {"seeds": [3, 4], "nonfinite_lifetimes": 0, "held_out": report})
    return path
