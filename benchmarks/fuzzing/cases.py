"""One mutated input after another, each decided by a seed and its number alone."""

from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from benchmarks.fuzzing.mutations import config_text, run_files, words
from metarule.config.toml import ConfigError, read
from metarule.prng import run_key
from metarule.runs.directory import start_run
from metarule.runs.experiment import read_experiment_file
from metarule.runs.files import write_json
from metarule.runs.training import write_theta

__all__ = ["CONFIGS", "Case", "case_of", "finished_run", "laid_out"]

CONFIGS = Path(__file__).parents[2] / "configs"


class Case(NamedTuple):
    """One input.

    Attributes:
        number: which one.
        kind: `config` for a config file, `words` for a command line, `run` for a run directory with its θ file.
        files: by name.
        words: of the command line, after the config file.
    """

    number: int
    kind: str
    files: dict[str, bytes]
    words: tuple[str, ...] = ()


def case_of(seed: int, number: int, files: dict[str, bytes]) -> Case:
    """An input.

    Args:
        seed: of all inputs.
        number: of this one.
        files: of a finished run, by name.

    Returns:
        The input.
    """
    rng = Random(f"{seed}/{number}")
    match rng.choice(("config", "config", "words", "words", "run")):
        case "config":
            return Case(number, "config", {"config.toml": config_text(rng, [tree for _, tree in _bases()])})
        case "words":
            text, _ = rng.choice(_bases())
            return Case(number, "words", {"config.toml": text.encode()}, tuple(words(rng)))
        case _:
            return Case(number, "run", run_files(rng, files))


def laid_out(case: Case, place: Path) -> Path:
    """Write the files of an input into a directory, which is made or emptied; it is returned."""
    place.mkdir(parents=True, exist_ok=True)
    for file in place.iterdir():
        file.unlink()
    for name, content in case.files.items():
        (place / name).write_bytes(content)
    return place


def finished_run(place: Path) -> dict[str, bytes]:
    """The files that are read of a finished run of seven numbers, by name; nothing was learned in it.

    Args:
        place: a directory that is not there yet.

    Returns:
        The files.
    """
    experiment, _ = read_experiment_file(CONFIGS / "paper.toml", [])
    start_run(place, experiment, None)
    write_theta(place, experiment.lifetime, experiment.lifetime.theta(run_key(0)))
    write_json(place / "summary.json", {"held_out": {"baselines": {"delta": {"learning_rate": 0.2}}}})
    return {file.name: file.read_bytes() for file in sorted(place.iterdir())}


@lru_cache(maxsize=1)
def _bases() -> list[tuple[str, dict[str, Any]]]:
    """Text and tree of every config that ships."""
    found = []
    for file in sorted(CONFIGS.glob("*.toml")):
        try:
            read_experiment_file(file, [])
        except ConfigError:  # that of a study
            continue
        found.append(read(file))
    return found
