"""The command of structure search, as a user runs it."""

import json
import shutil
from pathlib import Path

import pytest

from metarule.commands.evolve import Options, main
from metarule.commands.train import main as train
from metarule.runs.stopping import StopRequest

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "structure-search.toml"
SMALL = {
    "rule.terms": '["pre*modulator", "pre*post", "weight", "pre*modulator*post^2", "post"]',
    "tasks.inputs": "2",
    "inner_loop.steps": "20",
    "optimizer.steps": "4",
    "optimizer.batch_size": "4",
    "evaluation.lifetimes": "16",
    "evolve.generations": "2",
    "evolve.population": "4",
    "evolve.steps": "3",
    "evolve.lifetimes": "8",
    "evolve.chunk_size": "4",
}


def words(directory, **others):
    fields = SMALL | {"run.directory": str(directory)} | others
    return [str(CONFIG), *(word for field, value in fields.items() for word in (f"--{field}", value))]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "finished"
    assert main(words(directory)) == 0
    return directory


def test_it_writes_a_front_of_rules(finished):
    front = json.loads((finished / "front.json").read_text())
    sizes = [row["terms"] for row in front["structures"]]
    assert sizes == sorted(set(sizes))
    assert front["evaluated"] == len(json.loads((finished / "evolve.json").read_text())["evaluated"]) >= 8
    for row in front["structures"]:
        assert len(row["names"]) == row["terms"] <= row["equation"].count("·") + 1
        assert row["low"] <= row["mean"] <= row["high"]
        assert [name for name, value in row["theta"].items() if value] == row["names"]
    assert (finished / "figures" / "front.png").stat().st_size > 10_000


def test_a_stopped_search_resumes_to_the_same_front(finished, tmp_path, monkeypatch, capsys):
    answered = []

    def answer(self, step):
        answered.append(step)
        if len(answered) == 2:
            self.ask(15)
            StopRequest_answer(self, step)

    StopRequest_answer = StopRequest.answer
    monkeypatch.setattr(StopRequest, "answer", answer)
    assert main(words(tmp_path / "run")) == 128 + 15
    assert f"go on with: metarule evolve --resume {tmp_path / 'run'}" in capsys.readouterr().err
    monkeypatch.undo()
    assert not (tmp_path / "run" / "front.json").exists()
    assert main(["--resume", str(tmp_path / "run")]) == 0
    for name in ("front.json", "evolve.json"):
        one, other = (json.loads((path / name).read_text()) for path in (finished, tmp_path / "run"))
        assert one | {"seconds": 0} == other | {"seconds": 0}


def test_a_finished_search_is_not_replaced_unless_asked_to(finished, tmp_path, capsys):
    copy = shutil.copytree(finished, tmp_path / "run")
    assert main(words(copy)) == 2
    assert "it holds a run" in capsys.readouterr().err
    assert (copy / "front.json").exists()


@pytest.mark.parametrize(
    ("others", "message"),
    [
        (
            {"optimizer.kind": "genetic"},
            "optimizer = Genetic: coefficients are found by gradient descent; allowed: gradient",
        ),
        ({"evolve.population": "3"}, "evolve.population = 3: expected `int` >= 4"),
        ({"evolve.size": "3"}, "evolve.size = 3: there is no such field"),
        ({"seeds": "2"}, "seeds = 2: a structure search has one seed; allowed: 1"),
        ({"rule.terms": '["pre"]', "rule.frozen": '["pre"]'}, "no parameter is left"),
    ],
    ids=["kind", "population", "unknown", "seeds", "frozen"],
)
def test_bad_input_is_refused_in_one_line(others, message, tmp_path, capsys):
    given = words(tmp_path / "run", **others)
    if "optimizer.kind" in others:
        given = [str(CONFIG), "--optimizer.kind", "genetic", "--run.directory", str(tmp_path / "run")]
    assert main(given) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("metarule evolve: ")
    assert message in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["{}", '{"options": {}, "generation": 1, "population": [3]}', "[1]", "{"])
def test_a_damaged_search_is_refused_in_one_line(text, finished, tmp_path, capsys):
    copy = shutil.copytree(finished, tmp_path / "run")
    (copy / "evolve.json").write_text(text)
    assert main(["--resume", str(copy)]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f"metarule evolve: {copy / 'evolve.json'}: ")
    assert errors.count("\n") == 1


def test_train_does_not_resume_a_search(finished, capsys):
    assert train(["--resume", str(finished)]) == 2
    assert "it holds a structure search; go on with: metarule evolve" in capsys.readouterr().err


def test_a_directory_without_a_search_is_not_resumed(tmp_path, capsys):
    assert main(["--resume", str(tmp_path)]) == 2
    assert "metarule evolve: " in capsys.readouterr().err
    assert main(["--resume"]) == 2
    assert "--resume takes one run directory" in capsys.readouterr().err


def test_help_names_every_field(capsys):
    assert main(["--help", "evolve"]) == 0
    printed = capsys.readouterr().out
    for field in Options.__struct_fields__:
        assert f"--evolve.{field} " in printed
