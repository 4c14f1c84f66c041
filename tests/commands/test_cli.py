"""Frame of all commands: devices from config or command line, help, errors, signals."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from metarule.commands import cli
from metarule.config.messages import warn


def ran(*words, **options):
    """Exit status of a command, and its calls with their words and precision."""
    calls = []

    def serve(rest):
        calls.append((rest, jax.config.jax_default_matmul_precision))
        return 0

    return cli.run("a command", list(words), "usage", serve, "nothing was written", **options), calls


def test_options_of_devices_are_removed_from_the_words_of_the_command():
    assert ran("RUN")[1] == [(["RUN"], "highest")]
    status, [(rest, precision)] = ran("RUN", "--devices.use", "1", "--look", "3", "--devices.matmul=high")
    assert (status, rest, precision) == (0, ["RUN", "--look", "3"], "high")


def test_the_command_line_overrides_devices_of_the_config(tmp_path):
    config = tmp_path / "config.toml"
    config.write_text('[devices]\nuse = 1\nmatmul = "high"\n')
    assert ran(str(config))[1] == [([str(config)], "high")]
    assert ran(str(config), "--devices.matmul", "highest")[1] == [([str(config)], "highest")]


def test_the_name_of_a_config_does_not_matter(tmp_path):
    config = tmp_path / "an experiment"
    config.write_text('[devices]\nmatmul = "high"\n')
    assert ran(str(config))[1] == [([str(config)], "high")]


@pytest.mark.parametrize(
    "words, message",
    [
        (["--devices.use", "0"], "devices.use = 0: expected `int` >= 1"),
        (["--devices.use", "257"], "devices.use = 257: expected `int` <= 256"),
        (["--devices.matmul", "low"], "devices.matmul = 'low': allowed: default, high, highest"),
        (["--devices.cores", "1"], "devices.cores = 1: there is no such field; allowed: use, matmul"),
        (["--devices.use"], "--devices.use: a value is missing"),
        (
            ["--devices.processes", "2"],
            "processes = 2: coordinator = ''; allowed: with coordinator = 'HOST:PORT' alone",
        ),
        (["--devices.processes", "2", "--devices.process", "2", "--devices.coordinator", "a:1"], "allowed: 0 to"),
        (["--devices.coordinator", "here", "--devices.processes", "2"], "coordinator = 'here': allowed: HOST:PORT"),
        (
            ["--devices.coordinator", "a:99999", "--devices.processes", "2"],
            "'a:99999': allowed: HOST:PORT",
        ),
        (["--devices.coordinator", "a:1"], "coordinator = 'a:1': processes = 1; allowed: with 2 processes or more"),
        (["--devices.coordinator", "a:1", "--devices.processes", "2"], "this command runs in one process"),
    ],
)
def test_invalid_devices_are_refused_in_one_line(words, message, capsys):
    assert ran("RUN", *words) == (2, [])
    errors = capsys.readouterr().err
    assert errors.startswith("a command: ")
    assert message in errors
    assert errors.count("\n") == 1


def test_options_of_devices_alone_are_no_command(capsys):
    assert ran("--devices.use", "1") == (2, [])
    assert "an option of [devices] alone is no command" in capsys.readouterr().err
    assert ran("--devices.use", "1", bare=True)[0] == 0


@pytest.mark.parametrize(
    ("place", "message"), [("closed", "Broken pipe"), ("/dev/full", "No space left on device"), (os.devnull, "")]
)
@pytest.mark.parametrize("words", [["--help"], ["RUN"]])
def test_output_that_cannot_be_written_is_reported_in_one_line(place, message, words):
    command = "import sys; from metarule.commands import cli; serve = lambda rest: print('done') or 0; "
    command += f"sys.exit(cli.run('a command', {words}, 'usage', serve, 'all is kept'))"
    if place == "closed":
        reader, writer = os.pipe()
        os.close(reader)
    else:
        writer = os.open(place, os.O_WRONLY)
    done = subprocess.run([sys.executable, "-c", command], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert done.stderr == (f"a command: {message}; all is kept\n" if message else "")
    assert done.returncode == bool(message)


def test_words_that_are_not_text_are_refused_in_one_line(capsys):
    assert ran("a\udcff") == (2, [])
    assert capsys.readouterr().err == "a command: 'a\\udcff': this is not text: surrogates not allowed\n"


def test_missing_devices_are_refused_in_one_line(monkeypatch, capsys):
    def none():
        raise RuntimeError("Unable to initialize backend 'cuda'\nand more")

    monkeypatch.setattr(jax, "devices", none)
    assert ran("RUN") == (2, [])
    assert capsys.readouterr().err == "a command: devices: JAX finds none: Unable to initialize backend 'cuda'\n"


def test_help_lists_devices(capsys):
    assert ran("--help") == (0, [])
    assert "  devices " in capsys.readouterr().out
    assert ran("RUN", "-h", "devices", "--anything") == (0, [])
    assert "--devices.coordinator" in capsys.readouterr().out


def test_help_of_an_unknown_table_is_refused_in_one_line(capsys):
    assert ran("--help", "device") == (2, [])
    message = "--help device: there is no such table; allowed: devices; did you mean 'devices'?"
    assert capsys.readouterr().err == f"a command: {message}\n"


def test_more_devices_of_a_cpu_than_xla_has_threads_for_are_refused(monkeypatch, capsys):
    monkeypatch.setattr(jax, "local_device_count", lambda: 257)
    assert ran("RUN") == (2, [])
    message = "JAX_NUM_CPU_DEVICES or XLA_FLAGS: 257 devices of a CPU; allowed: at most 256"
    assert capsys.readouterr().err == f"a command: {message}\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_answered_by_one_line(number, capsys):
    assert cli.run("a command", ["RUN"], "", lambda rest: signal.raise_signal(number), "all is kept") == 128 + number
    assert capsys.readouterr().err == "a command: stopped at once; all is kept\n"


def test_warnings_count_in_the_status_of_the_outer_command_alone(capsys):
    inner = []

    def serve(rest):
        inner.append(cli.run("inner", ["RUN"], "", lambda rest: warn("no figure") or 0, ""))
        warn("no figure either")
        return 0

    assert cli.run("outer", ["RUN"], "", serve, "") == 1
    assert inner == [0]
    assert capsys.readouterr().err == "no figure\nno figure either\n"
    assert ran("RUN")[0] == 0


def test_commands_ignore_strict_promotion():
    with jax.numpy_dtype_promotion("strict"):
        status = cli.run(
            "a command", ["RUN"], "", lambda rest: int((jax.numpy.ones(1) + jax.numpy.arange(1)).sum()), ""
        )
    assert status == 1


def test_messages_of_libraries_do_not_reach_files_if_streams_are_closed(tmp_path):
    script = "import os, sys\nfrom pathlib import Path\nfrom metarule.commands import cli\n"
    script += "def serve(rest):\n    with Path('result').open('w') as file:\n        file.write('complete')\n"
    script += (
        "        os.write(1, b'noise'), os.write(2, b'noise'), print('message'), print('message', file=sys.stderr)\n"
    )
    script += "    return 0\nsys.exit(cli.run('a command', ['RUN'], '', serve, ''))"
    closing = 'exec "$0" -c "$1" <&- >&- 2>&-'
    env = os.environ | {"PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(["sh", "-c", closing, sys.executable, script], cwd=tmp_path, env=env)
    assert (done.returncode, (tmp_path / "result").read_text()) == (0, "complete")


@pytest.mark.parametrize("variable", ["JAX_ENABLE_X64", "JAX_NUM_CPU_DEVICES"])
def test_a_variable_with_which_jax_cannot_start_gives_one_line(variable):
    command = [sys.executable, "-m", "metarule.train", "RUN"]
    done = subprocess.run(command, env=os.environ | {variable: "maybe"}, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("metarule: JAX cannot start: ")
    assert variable in done.stderr.upper()


def test_help_without_docstrings_and_under_strict_promotion():
    env = os.environ | {"JAX_NUMPY_DTYPE_PROMOTION": "strict", "JAX_NUMPY_RANK_PROMOTION": "raise"}
    command = [sys.executable, "-OO", "-m", "metarule.train", "--help"]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "  circuit " in done.stdout
    assert "Exit status: 0 done; 1" in done.stdout
