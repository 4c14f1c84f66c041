"""The command that writes a page, as a user runs it."""

import signal
from http.server import ThreadingHTTPServer

import pytest
from reported import reported_run
from small import EXPERIMENT, finished_run

from metarule.commands.report import main
from metarule.runs.stopping import Terminated


def test_a_page_is_written_into_the_directory_of_the_run(tmp_path, capsys):
    path = reported_run(tmp_path / "run")
    assert main([str(path)]) == 0
    assert capsys.readouterr().out == f"report: {path / 'report.html'}\n"
    assert "<h1>run</h1>" in (path / "report.html").read_text()
    assert main([str(path), "--file", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").read_text() == (path / "report.html").read_text()


def test_several_runs_are_compared(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("<a>", "b"):
        finished_run(tmp_path / name, EXPERIMENT)
    assert main(["<a>", "b"]) == 0
    (file,) = (tmp_path / "runs" / "comparisons").glob("*/report.html")
    assert str(file.relative_to(tmp_path)) in capsys.readouterr().out
    text = file.read_text()
    assert "&lt;a&gt; − b = +0.0000, paired over 8 tasks." in text
    assert "<a>" not in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere: there is no such directory, or it cannot be read"),
        (["."], ".: it holds no run and no sweep"),
        (["--live"], "'--live': the directory of a run or a sweep comes first"),
        (["run", "b", "--live"], "--live: allowed: with one directory"),
        (["run", "--file", "nowhere/x.html"], "file = 'nowhere/x.html': its folder does not exist"),
        (["run", "--file", "run"], "file = 'run': this is a folder; allowed: a file"),
        (["run/config.toml"], "'run/config.toml': this is no directory; allowed: that of a run or a sweep"),
        ([""], "'': this is no directory"),
        (["run", "--live", "8000"], "'8000' is not expected here; options are given as --NAME VALUE"),
        (["--rule.kind", "mlp", "run"], "'--rule.kind': the directory of a run or a sweep comes first"),
        (["run", "--help", "nope"], "--help nope: this command has no tables"),
        (["run", "--fil", "x"], "fil = 'x': there is no such field; allowed: file"),
        (["run", "run"], "this run is named twice"),
    ],
)
def test_bad_input_gives_one_line_and_exit_status_2(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    reported_run(tmp_path / "run")
    assert main(words) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("metarule report: ")
    assert message in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize(("stop", "status"), [(KeyboardInterrupt, 0), (Terminated, 128 + signal.SIGTERM)])
def test_a_served_page_ends_with_ctrl_c(tmp_path, monkeypatch, capsys, stop, status):
    def serve(server):
        raise stop

    monkeypatch.setattr(ThreadingHTTPServer, "serve_forever", serve)
    assert main([str(reported_run(tmp_path / "run", finished=False)), "--live"]) == status
    assert capsys.readouterr().out.startswith("http://127.0.0.1:")
