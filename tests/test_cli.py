"""What all commands share: where to compute is said by config or command line, and is none of their own words."""

import os
import subprocess
import sys

import jax
import pytest

from metarule import cli


def ran(*words, **options):
    """What the command was given, and its exit status."""
    seen = []

    def serve(rest):
        seen.append((rest, jax.config.jax_default_matmul_precision))
        return 0

    return cli.run("a command", list(words), lambda: "usage", serve, "nothing was written", **options), seen


def test_words_for_devices_are_no_words_of_the_command():
    assert ran("RUN")[1] == [(["RUN"], "highest")]
    status, [(rest, precision)] = ran("RUN", "--devices.use", "1", "--look", "3", "--devices.matmul=high")
    assert (status, rest, precision) == (0, ["RUN", "--look", "3"], "high")


def test_a_config_may_say_it_too_and_the_command_line_has_the_last_word(tmp_path):
    config = tmp_path / "config.toml"
    config.write_text('[devices]\nuse = 1\nmatmul = "high"\n')
    assert ran(str(config))[1] == [([str(config)], "high")]
    assert ran(str(config), "--devices.matmul", "highest")[1] == [([str(config)], "highest")]


@pytest.mark.parametrize(
    "words, says",
    [
        (["--devices.use", "0"], "devices.use = 0: expected `int` >= 1"),
        (["--devices.use", "257"], "devices.use = 257: expected `int` <= 256"),
        (["--devices.matmul", "low"], "devices.matmul = 'low': allowed: default, high, highest"),
        (["--devices.cores", "1"], "devices.cores = 1: there is no such field; allowed: use, matmul"),
        (["--devices.use"], "--devices.use: a value is missing"),
        (["--devices.processes", "2"], "processes = 2: with a coordinator"),
        (["--devices.processes", "2", "--devices.process", "2", "--devices.coordinator", "a:1"], "allowed: 0 to"),
        (["--devices.coordinator", "here", "--devices.processes", "2"], "coordinator = 'here': allowed: HOST:PORT"),
        (
            ["--devices.coordinator", "a:99999", "--devices.processes", "2"],
            "'a:99999': allowed: HOST:PORT",
        ),
        (["--devices.coordinator", "a:1"], "with processes = 2 or more"),
        (["--devices.coordinator", "a:1", "--devices.processes", "2"], "this command runs in one process"),
    ],
)
def test_devices_that_cannot_be_are_refused_in_one_line(words, says, capsys):
    assert ran("RUN", *words) == (2, [])
    errors = capsys.readouterr().err
    assert errors.startswith("a command: ")
    assert says in errors
    assert errors.count("\n") == 1


def test_nothing_but_devices_is_no_command(capsys):
    assert ran("--devices.use", "1") == (2, [])
    assert "nothing what" in capsys.readouterr().err
    assert ran("--devices.use", "1", bare=True)[0] == 0


@pytest.mark.parametrize(
    ("place", "says"), [("closed", "Broken pipe"), ("/dev/full", "No space left on device"), (os.devnull, "")]
)
@pytest.mark.parametrize("words", [["--help"], ["RUN"]])
def test_where_nobody_takes_what_is_printed_one_line_says_so(place, says, words):
    command = "import sys; from metarule import cli; serve = lambda rest: print('done') or 0; "
    command += f"sys.exit(cli.run('a command', {words}, lambda: 'usage', serve, 'all is kept'))"
    if place == "closed":
        reader, writer = os.pipe()
        os.close(reader)
    else:
        writer = os.open(place, os.O_WRONLY)
    done = subprocess.run([sys.executable, "-c", command], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert done.stderr == (f"a command: {says}; all is kept\n" if says else "")
    assert done.returncode == bool(says)


def test_words_that_are_no_text_are_refused_in_one_line(capsys):
    assert ran("a\udcff") == (2, [])
    assert capsys.readouterr().err == "a command: 'a\\udcff': this is not text: surrogates not allowed\n"


def test_devices_that_are_not_there_are_refused_in_one_line(monkeypatch, capsys):
    def none():
        raise RuntimeError("Unable to initialize backend 'cuda'\nand more")

    monkeypatch.setattr(jax, "devices", none)
    assert ran("RUN") == (2, [])
    assert capsys.readouterr().err == "a command: devices: JAX finds none: Unable to initialize backend 'cuda'\n"


def test_help_says_how_to_choose_devices(capsys):
    assert ran("--help") == (0, [])
    assert "--devices.coordinator" in capsys.readouterr().out
