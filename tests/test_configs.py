"""Every config runs, and opens with its command, its time and the expected result."""

import json
from pathlib import Path

import jax
import pytest
from msgspec.structs import replace
from small import overrides

from metarule.analysis.baselines import baselines
from metarule.analysis.evaluation import paired_curves
from metarule.commands import infer, simulate
from metarule.config.toml import override, parse_overrides, read
from metarule.meta.loop import advance, begin
from metarule.meta.phases import list_phases
from metarule.prng import run_key
from metarule.runs.directory import start_run
from metarule.runs.experiment import Experiment, decode_experiment
from metarule.runs.results import write_results
from metarule.runs.stopping import StopRequest
from metarule.runs.training import train
from metarule.tasks.base import primary_metric

pytestmark = pytest.mark.usefixtures("with_kernels")

ROOT = Path(__file__).parent.parent
READMES = ("README.md", "configs/README.md", "benchmarks/README.md", "metarule/README.md")
CONFIGS = sorted((ROOT / "configs").glob("*.toml"))
# Other configs are run by test_readme, boolean-2 by test_train, simulations by test_simulate, and studies by tests of
# benchmarks.
UNTESTED = [
    path
    for path in CONFIGS
    if all(f"train configs/{path.name}" not in (ROOT / readme).read_text() for readme in READMES)
    and path.stem != "boolean-2"
    and not path.stem.startswith(("study-", "simulate-", "infer-"))
]


# These run: a recurrent network with learned initial weights, and a closed loop with traces and an evolution strategy.
RUN = ("memory", "navigation")
TRACED = {path.stem: path for path in UNTESTED if path.stem not in RUN}


@pytest.mark.parametrize("name", ["the default experiment", *TRACED])
def test_rule_circuit_tasks_and_optimizer_fit_together(name):
    """A meta-step and an evaluation with the default baselines are traced at full size; shapes are checked."""
    experiment = decode_experiment(read(TRACED[name])[1] if name in TRACED else {})
    lifetime, optimizer, split = experiment.lifetime, experiment.optimizer, experiment.split
    compared = baselines(lifetime, experiment.evaluation.baselines).values()
    assert compared
    (phase, *_) = list_phases(optimizer, lifetime)

    def run(key):
        state, info = advance(phase, split.train, begin(lifetime, optimizer, split.train, key), key, 1, 1)
        thetas = (phase.optimizer.theta(state), *(one.init_theta(key) for one in compared))
        return info.loss, paired_curves((lifetime, *compared), thetas, split.test, key, 2, 2)

    loss, curves = jax.eval_shape(run, run_key(0))
    assert loss.shape == (1,)
    assert all(one.metrics[primary_metric(experiment.tasks)].shape == (2, 3) for one in curves)


@pytest.mark.parametrize(
    "path", [pytest.param(path, id=path.stem, marks=() if path.stem in RUN else pytest.mark.long) for path in UNTESTED]
)
def test_a_config_runs_a_few_steps(path, tmp_path):
    pairs = parse_overrides([f"--{field}={value}" for field, value in overrides(path).items()])
    experiment = decode_experiment(override(read(path)[1], pairs))
    start_run(tmp_path, experiment, path.read_text())
    trained = train(experiment, tmp_path, StopRequest(), lambda step, row: None)
    summary = write_results(experiment, tmp_path, trained, StopRequest())
    assert summary["steps"] == 6
    assert summary["nonfinite_lifetimes"] == 0
    assert summary["held_out"]["learned"]["mean"] >= 0


@pytest.mark.long
@pytest.mark.parametrize(("name", "term"), [("oja", "oja"), ("choice", "pre*neuromodulator")])
def test_a_config_infers_the_rule_of_simulated_recordings(name, term, tmp_path):
    sizes = ["--simulation.animals=4", "--simulation.steps=30"]
    assert simulate.main([f"simulate-{name}", *sizes, "--out", str(tmp_path / "animals")]) == 0
    # A few terms in place of all, because programs for fewer compile faster.
    small = ["--rule.terms", json.dumps([term, "pre"]), "--inference.models", '["hebb"]', "--inference.bootstrap=0"]
    files = ["--tasks.files", str(tmp_path / "animals" / "*.npz"), "--run.directory", str(tmp_path / "run")]
    assert infer.main([f"infer-{name}", *files, *small]) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["inference"]["animals"] == {"fitted": 3, "held_out": 1}
    assert term in summary["inference"]["selected"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_opens_with_command_time_and_expectation(path):
    opening = path.read_text().split("\n\n")[0]
    assert all(line.startswith("#") for line in opening.splitlines() if line)
    programs = [f"metarule {command}" for command in ("train", "evolve", "simulate", "infer")]
    programs.append("python -m benchmarks.study")
    assert any(f"{program} configs/{path.name}" in opening for program in programs)
    for word in ("Time:", "Expect:"):
        assert word in opening


@pytest.mark.long
def test_the_default_experiment_runs(tmp_path):
    experiment = Experiment()
    small = replace(experiment.optimizer, steps=2, batch_size=4)
    evaluation = replace(experiment.evaluation, monitor_lifetimes=4, lifetimes=4, baselines=("delta",))
    experiment = replace(experiment, optimizer=small, evaluation=evaluation)
    start_run(tmp_path, experiment, None)
    trained = train(experiment, tmp_path, StopRequest(), lambda step, row: None)
    assert trained.theta.shape == (16,)
