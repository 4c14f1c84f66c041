import jax
import numpy as np
import pytest
from msgspec.structs import replace
from small import EXPERIMENT, finished_run

import metarule
from metarule.config.toml import ConfigError
from metarule.runs.directory import SEARCH
from metarule.runs.finished import load_seeds


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return finished_run(tmp_path_factory.mktemp("runs") / "run")


def test_a_finished_run_is_loaded_with_its_parts(path):
    run = metarule.load(str(path))
    learner = EXPERIMENT.lifetime
    assert (run.directory, run.config, run.learner) == (path, EXPERIMENT, learner)
    assert (run.rule, run.tasks, run.rates) == (EXPERIMENT.rule, EXPERIMENT.tasks, {"delta": 0.2})
    np.testing.assert_array_equal(run.theta, learner.init_theta(jax.random.key(5)))
    assert run.equation == learner.equation(run.theta)
    assert repr(run) == f"FinishedRun('{path}', Polynomial, Feedforward, Boolean)"


def test_a_loaded_rule_is_evaluated_as_any_other(path):
    run = metarule.load(path)
    scores = metarule.final_metrics(run.learner, run.theta, run.config.split.test, jax.random.key(0), 8)
    assert 0 <= float(scores["solved"].mean()) <= 1


def test_runs_that_cannot_be_loaded_are_refused_in_one_line(path, tmp_path):
    several = finished_run(tmp_path / "several", replace(EXPERIMENT, seeds=2))
    search, unfinished = finished_run(tmp_path / "search"), finished_run(tmp_path / "unfinished")
    (search / SEARCH).write_text("{}")
    (unfinished / "summary.json").unlink()
    for place, message in (
        (tmp_path, "this is no run directory"),
        (several, "it holds runs of 2 seeds; give one of them, such as .*s3"),
        (search, "it holds a structure search, which has no single θ"),
        (unfinished, "this run is not finished; go on with: metarule train --resume"),
    ):
        with pytest.raises(ConfigError, match=message) as caught:
            metarule.load(place)
        assert "\n" not in str(caught.value)


def test_all_seeds_of_a_directory_are_loaded(path, tmp_path):
    several = finished_run(tmp_path / "several", replace(EXPERIMENT, seeds=2))
    for seed in (3, 4):
        finished_run(several / f"s{seed}", EXPERIMENT.of_seed(seed))
    assert [run.config.seed for run in load_seeds(several)] == [3, 4]
    assert [run.directory for run in load_seeds(path)] == [path]
    (several / "s4" / "summary.json").unlink()
    with pytest.raises(ConfigError, match="s4: this run is not finished"):
        load_seeds(several)


def test_the_package_has_a_version():
    assert metarule.__version__.count(".") == 2
