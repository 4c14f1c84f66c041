"""The command `metarule` itself: help, version, misspelt commands and shell completion."""

import os
import shutil
import subprocess
import sys

import pytest

from metarule.__main__ import COMMANDS, main


def run_main(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["metarule", *words])
    return main(), *capsys.readouterr()


def test_help_lists_the_commands(monkeypatch, capsys):
    status, out, _ = run_main(monkeypatch, capsys, "--help")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines() if line.startswith("  ")] == list(COMMANDS)
    assert run_main(monkeypatch, capsys)[0] == 2
    assert run_main(monkeypatch, capsys, "--version")[1].startswith("metarule ")


def test_a_misspelt_command_gets_a_suggestion(monkeypatch, capsys):
    message = f"metarule: 'trian' is no command; allowed: {', '.join(COMMANDS)}; did you mean 'train'?\n"
    assert run_main(monkeypatch, capsys, "trian", "x.toml") == (2, "", message)


def test_output_that_cannot_be_written_is_one_line():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "metarule", "--help"], stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "metarule: Broken pipe\n")


def test_a_command_gets_the_remaining_words(monkeypatch, capsys):
    status, out, _ = run_main(monkeypatch, capsys, "prune", "--help")
    assert status == 0
    assert out.startswith("usage: metarule prune ")


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("metarule ev", ["evaluate", "evolve"]),
        ("metarule train --rule.init", ["--rule.initial", "--rule.initial_spread"]),
        ("metarule train --ov", ["--overwrite"]),
        ("metarule prune run --devices.m", ["--devices.matmul"]),
        ("metarule train config", []),
        ("metarule train bool", ["boolean", "boolean-2"]),
        ("metarule sweep study-t", ["study-tasks", "study-transfer"]),
        ("metarule simulate simulate-o", ["simulate-oja"]),
        ("metarule prune bool", []),
    ],
)
def test_bash_completes_commands_and_options(line, completed, monkeypatch, capsys):
    _, script, _ = run_main(monkeypatch, capsys, "--completion", "bash")
    words = line.split()
    check = f'COMP_WORDS=({" ".join(words)}); COMP_CWORD={len(words) - 1}; _metarule; echo "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", script + check], capture_output=True, text=True, check=True)
    assert done.stdout.split() == completed


def test_scripts_of_other_shells(monkeypatch, capsys):
    assert run_main(monkeypatch, capsys, "--completion", "zsh")[1].startswith("(( $+functions[compdef] )) ||")
    assert "from adapt' -l adaptation.window\n" in run_main(monkeypatch, capsys, "--completion", "fish")[1]
    message = "metarule: --completion sh: allowed: bash, zsh, fish\n"
    assert run_main(monkeypatch, capsys, "--completion", "sh") == (2, "", message)
