"""Members of sweeps, as commands on finished runs take them."""

import json

import jax
import numpy as np
import pytest
from small import EXPERIMENT

from metarule.commands import adapt, evaluate, explain, prune, train
from metarule.config.toml import ConfigError
from metarule.runs.files import write_json
from metarule.runs.finished import load
from metarule.runs.members import is_member, member_name, write_member
from metarule.runs.sweep_files import CELLS, DONE, PLAN, RESULT

METRICS = {"solved": np.float32(0.75), "meta_loss": 0.5, "nonfinite_lifetimes": 0, "rejected_steps": 1}
SMALL = ["--evaluation.lifetimes", "8", "--evaluation.points", "1", "--evaluation.horizons", "[]"]


@pytest.fixture
def member(tmp_path):
    path = tmp_path / CELLS / "000" / DONE / "0-s3"
    theta = EXPERIMENT.lifetime.init_theta(jax.random.key(5))
    write_member(path, EXPERIMENT, theta, METRICS, {"cell": "000", "setting": "base config"})
    return path


def test_a_member_is_evaluated_without_baselines(member, capsys):
    assert evaluate.main([str(member), *SMALL]) == 0
    assert "left out: baselines: their rates were not tuned by this run" in capsys.readouterr().out
    (folder,) = (member / "evaluations").iterdir()
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["held_out"]["baselines"] == {}
    assert 0 <= summary["held_out"]["learned"]["mean"] <= 1


@pytest.mark.parametrize("command", [evaluate, adapt])
def test_a_baseline_of_a_member_is_refused(command, member, capsys):
    assert command.main([str(member), "--evaluation.baselines", '["delta"]']) == 2
    if command is evaluate:
        assert (
            "'delta' was not tuned by this run; allowed: none, as in all members of sweeps" in capsys.readouterr().err
        )


def test_a_member_is_adapted_pruned_and_explained(member, monkeypatch):
    taken = []
    monkeypatch.setattr(adapt, "_run", lambda transfer, path: taken.append(adapt._starts(transfer)) or 0)
    monkeypatch.setattr(prune, "_run", lambda run, options: taken.append(run.equation) or 0)
    monkeypatch.setattr(explain, "_run", lambda run, options, path: taken.append(run.equation) or 0)
    assert adapt.main([str(member)]) == prune.main([str(member)]) == explain.main([str(member)]) == 0
    assert list(taken[0]) == ["learned, adapting", "learned, frozen", "random, adapting"]
    assert taken[1] == taken[2] == load(member).equation


def test_a_member_is_not_resumed(member, capsys):
    before = {file: file.read_bytes() for file in member.iterdir()}
    assert train.main(["--resume", str(member)]) == 2
    message = f"metarule train: {member}: it is a member of a sweep, which is finished; go on with: metarule evaluate\n"
    assert capsys.readouterr().err == message
    assert {file: file.read_bytes() for file in member.iterdir()} == before
    write_json(member / "summary.json", {})
    assert not is_member(member)


def test_a_sweep_in_place_of_a_run_is_refused_with_a_member(member, tmp_path):
    write_json(tmp_path / PLAN, {})
    write_json(member.parent / RESULT, {})
    for path in (tmp_path, member.parent):
        with pytest.raises(ConfigError, match=f"holds the runs of a sweep; give one of them, such as {member}"):
            load(path)
    (member / "resolved.toml").unlink()
    for path in (tmp_path, member.parent):
        with pytest.raises(ConfigError, match="this sweep is of an earlier version, which kept no runs"):
            load(path)
    (member.parent / RESULT).unlink()
    with pytest.raises(ConfigError, match="it holds a sweep, of which no cell is finished"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("rate = 0.01, case = a", "7-rate=0.01,case=a-s3"),
        ("../../etc/passwd", "7-etc-passwd-s3"),
        ("", "7-s3"),
        ("äöü", "7-s3"),
        ("x" * 300, f"7-{'x' * 80}-s3"),
    ],
)
def test_names_are_safe(label, name):
    assert member_name(7, label, 3) == name
