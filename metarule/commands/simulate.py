"""Simulate recordings of animals that learn by a known rule: `metarule simulate CONFIG [--out DIR]`."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from shlex import quote
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from metarule.commands import cli
from metarule.commands.opening import SIMULATIONS
from metarule.config.help import Source
from metarule.config.schema import Checked
from metarule.config.shipped import find_config
from metarule.config.toml import ConfigError, decode, encode, override, parse_overrides, read
from metarule.recordings.animals import Animal
from metarule.recordings.npz import arrays_of, save_recordings
from metarule.recordings.simulation import SimulationExperiment, simulate, truth
from metarule.runs.files import write_json
from metarule.runs.transfer import new_folder

__all__ = ["FIELDS", "USAGE", "Options", "main"]

USAGE = f"""\
usage: metarule simulate CONFIG [--out DIR] [--TABLE.FIELD VALUE ...]

Simulate animals that learn by the rule of CONFIG, and write their recordings, an npz file each. They show whether a
rule can be inferred from as many animals and steps as an experiment has. The rule is written to truth.json. Weights
are computed in double precision and are not bounded. Fixed random wiring of a circuit is not recorded.

  CONFIG                 TOML file, or the name of one that is shipped:
                         {", ".join(SIMULATIONS)}
  --TABLE.FIELD VALUE    set a field of the config
  --help [TABLE]         this text, or the fields of a table
"""


class Options(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a simulation.

    Attributes:
        out: new or empty folder for the recordings; empty for `runs/simulations/<time>`.
    """

    out: str = ""


FIELDS = (Source(Options), Source(SimulationExperiment))


def main(words: list[str]) -> int:
    """Run the command with the words of its command line; the exit status is that of `cli.run`."""
    return cli.run("metarule simulate", words, USAGE, _serve, "nothing was written", FIELDS)


def _serve(words: list[str]) -> int:
    if words[0].startswith("-"):
        raise ConfigError(f"'{words[0]}': a config file comes first; see --help")
    file, pairs = find_config(words[0]), parse_overrides(words[1:])
    options = decode({name: str(value) for name, value in pairs if name == "out"}, Options)
    if Path(options.out).resolve() == Path.cwd() and options.out:  # it would be replaced
        raise ConfigError(f"out = '{options.out}': allowed: a folder other than the working directory")
    experiment = _read(file, [pair for pair in pairs if pair[0] != "out"])
    with new_folder(Path("runs", "simulations"), options.out, "out") as path:
        try:
            animals, known = simulate(experiment), truth(experiment)
        except ValueError as error:
            raise ConfigError(f"{file}: {error}") from error
        settings = {"config": encode(experiment), "seed": experiment.seed, "version": version("metarule")}
        _write(path.resolve(), animals, known | settings)
    print(_summary(path, animals, known["equation"]))
    return 0


def _read(file: Path, pairs: list[tuple[str, Any]]) -> SimulationExperiment:
    """Read a config file with some fields set; errors name the file."""
    tree = read(file)[1]
    tree.pop("devices", None)  # read by `cli.run`
    try:
        return decode(override(tree, pairs), SimulationExperiment)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error


def _write(path: Path, animals: Sequence[Animal], known: dict[str, Any]) -> None:
    """Write all files of an empty folder, or none."""
    with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as temporary:
        folder = Path(temporary, path.name)
        save_recordings(animals, folder)
        write_json(folder / "truth.json", known)
        folder.replace(path)


def _summary(path: Path, animals: Sequence[Animal], equation: str) -> str:
    steps, choices = len(animals[0].inputs), [one.choices for one in animals if one.choices is not None]
    files = f"{animals[0].name}.npz" + (f" to {animals[-1].name}.npz" if len(animals) > 1 else "")
    lines = [f"rule: {equation}", f"{len(animals)} animals, {steps} steps each: {', '.join(arrays_of(animals[0]))}"]
    lines += [f"choices: {np.mean(choices):.0%} are 1"] if choices else []
    lines += [f"recordings: {path / files}   rule: {path / 'truth.json'}"]
    return "\n".join([*lines, f"next: metarule infer CONFIG --tasks.files {quote(f'{path}/*.npz')}"])
