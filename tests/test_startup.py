"""A run in an unusual environment: no network, no home directory, no terminal, in double precision."""

import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from small import SIMPLEST, words

from metarule.commands import adapt, cli, train
from metarule.config.toml import ConfigError
from metarule.runs.files import read_json
from metarule.runs.metrics import read_metrics

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "configs" / "digits.toml"
TINY = words(SIMPLEST | {"optimizer.steps": "2", "optimizer.lengths": "[1.0]"})
BARE = {
    "LC_ALL": "de_DE.ISO-8859-1",
    "LANG": "C",
    "PYTHONIOENCODING": "latin-1",
    "TERM": "dumb",
    "HOME": "/dev/null/home",
    "TZ": "Pacific/Apia",
    "JAX_ENABLE_X64": "1",
}
NO_NETWORK = "import socket\n\ndef refuse(*_):\n    raise OSError('no network')\n\nsocket.socket.connect = refuse\n"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    directory = tmp_path_factory.mktemp("ein Ort mit Lücken, 漢字 und 'Zeichen'")
    (directory / "Ünser Versuch.toml").write_bytes(CONFIG.read_bytes())
    (directory / "sitecustomize.py").write_text(NO_NETWORK)
    bare = BARE | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(directory)])}
    command = [sys.executable, "-m", "metarule.train", "Ünser Versuch.toml", *TINY]
    done = subprocess.run(command, cwd=directory, capture_output=True, env=os.environ | bare)
    assert done.returncode == 0, done.stderr
    (path,) = (directory / "runs" / "Ünser Versuch").iterdir()
    return path, done


def test_real_images_need_no_network_and_no_writable_home(finished):
    path, _ = finished
    assert "digits" in (path / "resolved.toml").read_text(encoding="utf-8")
    assert (path / "summary.json").exists()


def test_progress_falls_back_to_plain_lines_in_the_available_characters(finished):
    path, done = finished
    printed = done.stdout.decode("latin-1")
    assert printed.startswith("run: runs/Ünser Versuch/")
    assert "meta-step 2 of 2" in printed
    assert "Δw₁ = ".encode("ascii", "backslashreplace").decode() in printed
    assert "\r" not in printed + done.stderr.decode("latin-1")
    assert "Δw₁ = " in json.loads((path / "theta.json").read_text(encoding="utf-8"))["equation"]


def test_every_number_of_a_run_is_in_double_precision(finished):
    path, _ = finished
    with np.load(path / "theta.npz") as arrays:
        assert {name: array.dtype for name, array in arrays.items()} == {"theta_0": np.float64}
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    summary = json.loads((path / "summary.json").read_text())
    numbers = [row[name] for row in rows for name in ("loss", "gradient_norm")]
    numbers += [number for terms in summary["theta"].values() for number in terms.values()]
    assert [number for number in numbers if float(np.float32(number)) == number] == []


def test_a_run_in_double_precision_adapts_in_it(finished, float64, capsys):
    path, _ = finished
    assert adapt.main([str(path), "--evaluation.lifetimes", "8", "--adaptation.window", "20"]) == 0
    assert "learned, adapting" in capsys.readouterr().out


def test_a_run_does_not_depend_on_the_clock(tmp_path, monkeypatch, capsys):
    seconds = itertools.count(1_700_000_000, -3600)
    monkeypatch.setattr(time, "time", lambda: float(next(seconds)))
    monkeypatch.setattr(time, "strftime", lambda _: "2026-10-25T02-30-00")
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert train.main([str(ROOT / "configs" / "boolean-2.toml"), *TINY]) == 0
    first, second = sorted(Path("runs", "boolean-2").iterdir())
    assert [first.name, second.name] == ["2026-10-25T02-30-00-s0", "2026-10-25T02-30-00-s0-2"]
    rows = [read_metrics(path) for path in (first, second)]
    assert [row["loss"] for row in rows[0]] == [row["loss"] for row in rows[1]] != []
    assert min(read_json(second / "summary.json")["seconds"].values()) >= 0
    assert train.main(["--resume", str(first)]) == 0  # the last checkpoint is identified by its step, not by its time


def test_an_error_is_printed_in_the_available_characters():
    script = "import sys; from metarule.commands.train import main; sys.exit(main(['nowhere/θ.toml']))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, cwd=ROOT, env=os.environ | BARE)
    assert done.returncode == 2
    assert done.stderr == b"metarule train: nowhere/\\u03b8.toml: No such file or directory\n"


def test_control_characters_in_an_error_are_escaped(capsys):
    def serve(words):
        raise ConfigError("one\n  two \x1b[31m\udcff" + "x" * 5000)

    assert cli.run("metarule.x", ["word"], "", serve, "") == 2
    errors = capsys.readouterr().err
    assert errors.startswith("metarule.x: one two \\x1b[31m\\udcffxxx")
    assert errors.count("\n") == 1
    assert len(errors) < 2100
