"""Numbers of the READMEs and the results behind them."""

import json
import shlex
from pathlib import Path

import pytest

from benchmarks.checking import check
from benchmarks.markdown import parts, prints
from benchmarks.results import FOLDER, LARGEST, read_results
from benchmarks.tables import FILES, findings_by_file, main

ROOT = Path(__file__).parents[2]
NAMED = {
    name.partition("/")[0]
    for file in FILES
    for part in parts((ROOT / file).read_text(encoding="utf-8"))
    for name in part.names
}


def method(mean, half, *longer):
    horizon = {"2": {"mean": longer[0]}, "20": {"mean": longer[1]}} if longer else {}
    return {"mean": mean, "low": mean - half, "high": mean + half, "by_seed": [0.111, 0.222], "horizon": horizon}


RUN = {
    "theta": {"pre*modulator": 0.70819, "weight": -0.10144},
    "held_out": {
        "metric": "solved",
        "learned": method(0.9512, 0.0104, 0.9631, 0.9474),
        "baselines": {
            "delta": method(0.5211, 0.0301) | {"difference": {"mean": 0.4301, "low": 0.4203, "high": 0.4398}},
            "adam": {"mean": 1.0, "low": None, "high": None},
        },
    },
}
ROWS = [{"size": "2-4-1", "form": "kernel", "ms": 0.1671, "runs": 30}, {"size": "2-4-1", "form": "XLA", "ms": 1236.2}]
TEXT = """\
# Title

Python ≥ 3.11, `0.5` in code, [a link](at-0.7.md), Apache-2.0 and 17 terms are no results.

```bash
command --rate 0.3
```

## Scores
<!-- results: short long -->

| `metarule train …` | learned rule | delta rule, same path | Adam | learned at 2 × / 20 × |
|---|---|---|---|---|
| `boolean.toml` | .951 [.941, .962] | .521 [.491, .551] | **1.000** | .963 / .947 |
| `configs/boolean.toml --seeds 10` | **.951** [.941, .962] | .521 [.491, .551] | – | .963 / .947 |

The learned rule, Δw = 0.708·pre·modulator − 0.101·weight, solves 95.1 %, and the delta rule .430
[.420, .440] fewer.

<!-- results: speed -->

| form | ms | runs |
|---|---|---|
| **kernel** | .17 | 30 |
| XLA | 1,236 | |
"""


@pytest.fixture
def folder(tmp_path):
    """Folder with a README, and with results of two runs and of a program."""
    (tmp_path / "README.md").write_text(TEXT)
    program = ["/somewhere/metarule/train.py", "/somewhere/configs/boolean.toml"]
    long = json.loads(json.dumps(RUN))
    del long["held_out"]["baselines"]["adam"]
    for name, numbers, more in (("short", RUN, []), ("long", long, ["--seeds", "10"])):
        run = tmp_path / name
        run.mkdir()
        (run / "summary.json").write_text(json.dumps(numbers))
        command = [*program, *more, "--run.directory", str(run)]
        (run / "environment.json").write_text(json.dumps({"command": command, "packages": {"jax": "1.0"}}))
        assert main(["--root", str(tmp_path), "--keep", str(run), "--name", name]) == 0
    (tmp_path / "rows.json").write_text(json.dumps(ROWS))
    command = ["--command", "python -m benchmarks.speed"]
    assert main(["--root", str(tmp_path), "--keep", str(tmp_path / "rows.json"), "--name", "speed", *command]) == 0
    return tmp_path


def checked(folder, capsys, *changes):
    """Exit status and lines of a check after pairs of texts are replaced in the README."""
    text = TEXT
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (folder / "README.md").write_text(text)
    capsys.readouterr()
    status = main(["--root", str(folder)])
    return status, capsys.readouterr().out.splitlines()


def test_a_stored_result_has_its_command_and_versions_and_no_places(folder):
    result = read_results(folder / FOLDER)["long"]
    assert result.command == "metarule train configs/boolean.toml --seeds 10"
    assert result.environment == {"packages": {"jax": "1.0"}}
    assert "by_seed" not in result.numbers["held_out"]["learned"]
    assert result.numbers["theta"] == RUN["theta"]


def test_numbers_of_results_pass(folder, capsys):
    assert checked(folder, capsys) == (0, [])


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("95.1 %", "95.2 %", "17: 95.2 %: no number of short or long"),
        ("Δw = 0.708", "Δw = −0.708", "17: −0.708: no number of short or long"),
        ("− 0.101", "+ 0.101", "17: + 0.101: no number of short or long"),
        ("rule .430\n[.420", "rule .521\n[.420", "17: .521 [.420, .440]: no number of short or long"),
        ("| **1.000** |", "| 1.000 |", "14: 1.000: short has **1.000**"),
        (
            "| **.951** [.941, .962] | .521 [.491, .551] |",
            "| .521 [.491, .551] | **.951** [.941, .962] |",
            "15: .521 [.491, .551]: long has **.951** [.941, .962]",
        ),
        ("| .17 |", "| .18 |", "24: .18: no number of speed"),
        ("| 1,236 |", "| .17 |", "25: .17: no number of speed"),
        ("| .17 | 30 |", "| 30 | .17 |", "24: 30: no number of speed"),
        ("| 30 |", "| 31 |", "24: 31: no number of speed"),
        ("17 terms", "1.7 terms", "3: 1.7: no comment names its result"),
        ("<!-- results: speed -->", "", "24: .17: no number of short or long"),
        ("<!-- results: speed -->", "<!-- results: -->", "24: .17: no comment names its result"),
        ("<!-- results: speed -->", "## Heading", "24: .17: no comment names its result"),
        ("results: speed", "results: speeds", "20: speeds: no result in configs/results"),
        ("results: speed", "results: speed/ms", "20: speed/ms: no result in configs/results"),
        ("| `boolean.toml` |", "| `points.toml` |", "14: `points.toml`: no command of short or long"),
    ],
    ids=range(17),
)
def test_a_number_without_a_result_fails(folder, capsys, old, new, line):
    status, lines = checked(folder, capsys, (old, new))
    assert status == 1
    assert lines[0] == f"README.md:{line}"


@pytest.mark.parametrize(
    ("value", "number", "signed", "same"),
    [
        (0.0274, "+.027", True, True),
        (-0.0276, ".028", False, True),
        (-0.0276, ".028", True, False),
        (-0.0276, "−.028", True, True),
        (-0.0276, "+.028", False, False),
        (0.9715, "97.2 %", True, True),
        (2.46e9, "2.5 GB", True, True),
        (2.46e9, "2.5 MB", True, False),
        (8.6e-15, "9e-15", True, True),
        (1.04e-5, "1.1e−5", True, False),
        (1235.8, "1,236", True, True),
        (0.6, "1", True, False),
        (0.0, "0", True, True),
    ],
)
def test_a_value_is_rounded_to_the_printed_digits(value, number, signed, same):
    assert prints(value, number, signed) == same


def test_a_comment_may_name_a_part_of_a_result(folder, capsys):
    assert checked(folder, capsys, ("results: short long", "results: short/held_out long/held_out short/theta"))[0] == 0
    status, lines = checked(folder, capsys, ("results: short long", "results: short/held_out long/held_out"))
    assert (status, lines[0]) == (1, "README.md:17: 0.708: no number of short/held_out or long/held_out")


def test_rows_without_a_command_are_no_rows_of_runs(folder):
    text = "<!-- results: short -->\n\n| score | Adam |\n|---|---|\n| solved: all | 1.000 |\n"
    assert check(text, read_results(folder / FOLDER)) == []
    (finding,) = check(text.replace("solved: all", "`boolean.toml`"), read_results(folder / FOLDER))
    assert finding.right == "**1.000**"


def test_cells_of_runs_are_written(folder, capsys):
    wrong = [("**.951** [.941, .962]", ".95"), ("| `boolean.toml` | .951 [.941, .962]", "| `boolean.toml` | –")]
    assert checked(folder, capsys, *wrong)[0] == 1
    assert main(["--root", str(folder), "--write"]) == 0
    assert (folder / "README.md").read_text() == TEXT


def test_findings_are_written_as_rows(folder, capsys):
    checked(folder, capsys, ("95.1 %", "95.2 %"))
    assert main(["--root", str(folder), "--json", str(folder / "found.json")]) == 1
    (row,) = json.loads((folder / "found.json").read_text())
    assert (row["file"], row["line"], row["text"]) == ("README.md", 17, "95.2 %")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--keep", "rows.json", "--name", "a"], "is no command for other machines"),
        (["--keep", "nothing", "--name", "a"], "it has none of summary.json"),
        (["--keep", "rows.json"], "needs a --name"),
        (["--keep", "rows.json", "--name", "A/b"], "name"),
        (["--keep", "long.json", "--name", "a", "--command", "metarule train"], "bytes of numbers; allowed: 40,000"),
        (["--root", "nowhere"], "there is none of README.md"),
    ],
)
def test_bad_words_are_refused(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    Path("rows.json").write_text(json.dumps(ROWS))
    Path("long.json").write_text(json.dumps(ROWS * 1000))
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_every_number_of_the_repository_has_its_result():
    found = [(name, one) for name, (_, findings) in findings_by_file(ROOT).items() for one in findings]
    assert [f"{name}: {one.text}: {one.problem}" for name, one in found] == []


@pytest.mark.parametrize("file", sorted((ROOT / FOLDER).glob("*.json")), ids=lambda file: file.stem)
def test_every_stored_result_is_small_is_named_and_can_be_repeated(file):
    assert file.stat().st_size <= LARGEST
    words = shlex.split(read_results(file.parent)[file.stem].command)
    assert words[0] == "metarule" or words[:2] == ["python", "-m"]
    assert [word for word in words if word.endswith(".toml") and not (ROOT / word).exists()] == []
    assert file.stem in NAMED
