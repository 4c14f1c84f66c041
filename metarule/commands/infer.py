"""Infer a rule from recordings: `metarule infer CONFIG [--TABLE.FIELD VALUE …]`."""

from metarule.commands import cli, train
from metarule.commands.opening import INFERENCES
from metarule.config.help import Source
from metarule.runs.experiment import Experiment

__all__ = ["FIELDS", "USAGE", "main"]

FIELDS = (Source(Experiment),)
USAGE = f"""\
usage: metarule infer CONFIG [--TABLE.FIELD VALUE ...] [--recover [N]] [--overwrite]
       metarule infer --resume RUN_DIR

Infer the rule of CONFIG from recordings of animals: fit it, select its terms, and report coefficients with intervals,
what held-out animals say against other rules, and which directions of θ the recordings leave open.

  CONFIG                 TOML file with [tasks] kind = "recordings", or the name of one that is shipped:
                         {", ".join(INFERENCES)}
  --tasks.files FILES    the recordings, such as 'animals/*.npz'; metarule simulate makes some
  --TABLE.FIELD VALUE    set a field of the config, or of [devices]
  --recover [N]          also simulate N experiments (default 20) from the estimate and fit them anew
  --overwrite            replace the run in --run.directory
  --resume RUN_DIR       continue a run that was stopped
  --help [TABLE]         this text, or the fields of a table
"""
_RECOVER, _REPETITIONS = "--recover", "20"


def main(words: list[str]) -> int:
    """Run the command with the words of its command line; the exit status is that of `cli.run`, 1 if θ diverged."""
    note = "what was saved before is kept"
    return cli.run("metarule infer", _with_recovery(words), USAGE, train.serve_inference, note, FIELDS)


def _with_recovery(words: list[str]) -> list[str]:
    """Command line in which `--recover [N]` is a field."""
    rest, remaining = list[str](), list(words)
    while remaining:
        word = remaining.pop(0)
        name, is_given, count = word.partition("=")
        if name != _RECOVER:
            rest.append(word)
            continue
        if not is_given:
            count = remaining.pop(0) if remaining and remaining[0].removeprefix("-").isdecimal() else _REPETITIONS
        rest += ["--inference.recover", count]
    return rest
