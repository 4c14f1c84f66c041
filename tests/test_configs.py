"""Every config runs, and opens with its command, its time and the expected result."""

import json
from pathlib import Path

import pytest
from msgspec.structs import replace
from small import overrides

from metarule.commands import infer, simulate
from metarule.config.toml import override, parse_overrides, read
from metarule.runs.directory import start_run
from metarule.runs.experiment import Experiment, decode_experiment
from metarule.runs.results import write_results
from metarule.runs.stopping import StopRequest
from metarule.runs.training import train

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


# Its search is tested by test_evolve; its terms take long to compile.
SLOW = "structure-search"


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, id=path.stem, marks=pytest.mark.long if path.stem == SLOW else ()) for path in UNTESTED],
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


def test_the_default_experiment_runs(tmp_path):
    experiment = Experiment()
    small = replace(experiment.optimizer, steps=2, batch_size=4)
    evaluation = replace(experiment.evaluation, monitor_lifetimes=4, lifetimes=4, baselines=("delta",))
    experiment = replace(experiment, optimizer=small, evaluation=evaluation)
    start_run(tmp_path, experiment, None)
    trained = train(experiment, tmp_path, StopRequest(), lambda step, row: None)
    assert trained.theta.shape == (16,)
