"""What is made of an input: it works, or it is refused in one line; all else breaks the promise."""

import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import jax
import msgspec
import numpy as np

import benchmarks
from benchmarks.fuzzing.cases import Case, case_of, finished_run, laid_out
from benchmarks.fuzzing.mutations import field_names
from metarule.config.toml import ConfigError, decode, override, parse_overrides, read
from metarule.lifetime.learner import Lifetime
from metarule.meta import AnyOptimizer, Sequence, advance, begin, phase_at
from metarule.prng import run_key
from metarule.runs.experiment import Experiment, read_experiment_file, to_tree
from metarule.runs.finished import read_finished

__all__ = ["ACCEPTED", "BROKEN", "REFUSED", "Outcome", "commanded", "decoded", "stepped"]

ACCEPTED, REFUSED, BROKEN = "accepted", "refused", "broken"
# Seconds that may pass before an answer, and before a command has ended, which compiles a dozen programs; numbers that
# a meta-step may reckon with to be taken for a trial.
_PATIENCE, _PATIENCE_FOR_COMMANDS, _CHEAP = 600, 1800, 3e7
# What a command spends its time on here is compiling small programs.
_QUICKLY = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "JAX_NUM_CPU_DEVICES": "1"}
_LONGEST = 2100
_TINY = {
    "seeds": "1",
    "evaluation.lifetimes": "2",
    "evaluation.points": "1",
    "evaluation.monitor_lifetimes": "1",
    "run.directory": "run",
}
# Fields, files and parts of a command line, one of which every refusal names.
_PARTS = ("TOML", "text", "--section.field", "theta.npz", "theta.json", "summary.json", "resolved.toml", "config.toml")
_NAMED = re.compile(r"(?<!\w)(" + "|".join(map(re.escape, (*field_names(), *_PARTS))) + r")(?!\w)")
_PROGRAMS = {"config": "metarule.train", "words": "metarule.train", "run": "metarule.evaluate"}


class Outcome(NamedTuple):
    """What became of an input.

    Attributes:
        number: of the input.
        kind: of the input.
        verdict: `accepted`, `refused` or `broken`.
        says: the line of refusal, or how the promise was broken.
        given: the smallest input that breaks it in the same way.
        cheap: whether it may be run.
    """

    number: int
    kind: str
    verdict: str
    says: str = ""
    given: str = ""
    cheap: bool = False


def decoded(seed: int, numbers: Iterable[int]) -> list[Outcome]:
    """Inputs through decode, build and the shapes of one meta-step.

    Args:
        seed: of all inputs.
        numbers: which of them.

    Returns:
        What became of each.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "input")
        files = finished_run(Path(folder, "run"))
        found = [_smallest(_decode(case_of(seed, number, files), place), place) for number in numbers]
    jax.clear_caches()  # which keep every program of every input
    return found


def stepped(seed: int, number: int) -> Outcome:
    """One meta-step of an input that was accepted; θ has to be finite after it."""
    with tempfile.TemporaryDirectory() as folder:
        case = case_of(seed, number, {})
        try:
            with _in_time():
                experiment = _read(case, laid_out(case, Path(folder)))
                theta = _one_step(experiment)
        except Exception as error:
            return Outcome(number, case.kind, BROKEN, _kind_of(error), _shown(case))
    finite = all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(theta))
    return Outcome(number, case.kind, ACCEPTED if finite else BROKEN, "" if finite else "θ is not finite", _shown(case))


def commanded(seed: int, number: int) -> Outcome:
    """An input through the command that a user would give it to, made so small that it ends soon."""
    with tempfile.TemporaryDirectory() as folder:
        case = case_of(seed, number, finished_run(Path(folder, "finished")))
        place = laid_out(case, Path(folder, "input"))
        work = Path(folder, "work")
        work.mkdir()
        here = str(Path(benchmarks.__file__).parents[1])
        quickly = os.environ | _QUICKLY | {"PYTHONPATH": os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])}
        try:
            done = subprocess.run(
                _words(case, place), cwd=work, capture_output=True, timeout=_PATIENCE_FOR_COMMANDS, env=quickly
            )
        except subprocess.TimeoutExpired:
            return Outcome(number, case.kind, BROKEN, f"not over in {_PATIENCE_FOR_COMMANDS} s", _shown(case))
        errors = done.stderr.decode(errors="replace")
        written = [file.name for file in work.iterdir()]
        kept = {file.name: file.read_bytes() for file in place.iterdir() if file.is_file()} == case.files
    if done.returncode == 0 and "Traceback" not in errors:
        return Outcome(number, case.kind, ACCEPTED)
    if done.returncode == 2 and errors.count("\n") == 1 and not written and kept:
        return Outcome(number, case.kind, REFUSED, errors.strip())
    says = f"status {done.returncode}, written {written or 'nothing'}: {errors.strip()[-300:]}"
    return Outcome(number, case.kind, BROKEN, says, _shown(case))


def _decode(case: Case, place: Path) -> tuple[Case, Outcome]:
    laid_out(case, place)
    try:
        with _in_time():
            made = _read(case, place)
            cheap = isinstance(made, Experiment) and _try_out(made)
    except ConfigError as error:
        broken = _complaint(str(error))
        return case, Outcome(case.number, case.kind, BROKEN if broken else REFUSED, broken or str(error))
    except Exception as error:
        return case, Outcome(case.number, case.kind, BROKEN, _kind_of(error))
    return case, Outcome(case.number, case.kind, ACCEPTED, cheap=cheap or case.kind == "run")


def _read(case: Case, place: Path) -> Any:
    """An experiment, or a finished run."""
    if case.kind == "run":
        return read_finished(place)
    return read_experiment_file(place / "config.toml", parse_overrides(case.words))[0]


def _try_out(experiment: Experiment) -> bool:
    """What an experiment that was accepted has to do: be written and read, and have a meta-step. Is it a cheap one?"""
    written = msgspec.toml.encode(to_tree(experiment)).decode()
    if decode(tomllib.loads(written), Experiment) != experiment:
        raise ValueError("it is not read as it was written")
    return _shapes(experiment.lifetime, experiment.optimizer) <= _CHEAP


@lru_cache(maxsize=1024)
def _shapes(lifetime: Lifetime, optimizer: AnyOptimizer) -> float:
    """Trace one meta-step, and tell about how many numbers it reckons with."""

    def step() -> Any:
        pool, key = lifetime.tasks.split(0).train, run_key(0)
        state = begin(lifetime, optimizer, pool, key)
        phase = phase_at(lifetime, optimizer, 0)
        born = phase.learner.init(key, lifetime.tasks.sample(key, pool, 0))
        return phase.optimizer.step(phase.learner, pool, state, key), (pool, born, optimizer.theta(state))

    _, sizes = jax.eval_shape(step)
    numbers = sum(leaf.size for leaf in jax.tree.leaves(sizes))
    parts = (optimizer.first, optimizer.then) if isinstance(optimizer, Sequence) else (optimizer,)
    return float(sum(part.spent(1) for part in parts)) * lifetime.steps * numbers


def _one_step(experiment: Experiment) -> Any:
    """θ after one meta-step."""
    lifetime, optimizer = experiment.lifetime, experiment.optimizer
    pool, key = experiment.split.train, run_key(experiment.seed)
    state, phase = begin(lifetime, optimizer, pool, key), phase_at(lifetime, optimizer, 0)
    state, _ = advance(phase.learner, phase.optimizer, pool, state, key, 1, 1)
    return optimizer.theta(state)


def _words(case: Case, place: Path) -> list[str]:
    """The command that a user would give an input to."""
    target = place if case.kind == "run" else place / "config.toml"
    return [sys.executable, "-m", _PROGRAMS[case.kind], str(target), *case.words, *_tiny(case, place)]


def _tiny(case: Case, place: Path) -> list[str]:
    """Words that make a run end soon."""
    if case.kind == "run":
        fields = {"evaluation.lifetimes": "4", "evaluation.points": "1", "directory": "run"}
    else:
        kinds = _kinds(case, place)
        steps = ("first.steps", "then.steps") if kinds["optimizer"] == "sequence" else ("steps",)
        fields = _TINY | {f"optimizer.{name}": "1" for name in steps}
        fields["evaluation.baselines"] = '["sutton_barto"]' if kinds["circuit"] == "conditioning" else '["delta"]'
    return [f"--{name}={value}" for name, value in fields.items()]


def _kinds(case: Case, place: Path) -> dict[str, Any]:
    """Kinds of circuit and optimiser, as far as they can be told of an input that may be refused."""
    try:
        tree = override(read(place / "config.toml")[1], parse_overrides(case.words))
        return {name: tree[name].get("kind") for name in ("circuit", "optimizer")}
    except (ConfigError, AttributeError, KeyError):
        return {"circuit": None, "optimizer": None}


def _smallest(judged: tuple[Case, Outcome], place: Path) -> Outcome:
    """The outcome, with the smallest input that breaks the promise in the same way, if it does."""
    case, outcome = judged
    if outcome.verdict != BROKEN:
        return outcome
    clock, kind, smaller = time.monotonic(), outcome.says.split(":")[0], True
    while smaller and time.monotonic() - clock < _PATIENCE:
        smaller = False
        for one in _smaller(case):
            _, found = _decode(one, place)
            if found.verdict == BROKEN and found.says.split(":")[0] == kind:
                case, outcome, smaller = one, found, True
                break
    return outcome._replace(given=_shown(case))


def _smaller(case: Case) -> Iterator[Case]:
    """The same without a piece: half of the lines of the config, a quarter, … one, or a word or two."""
    if case.kind == "run":
        return
    lines = case.files["config.toml"].split(b"\n")
    size = len(lines) // 2
    while size:
        for start in range(0, len(lines), size):
            yield case._replace(files={"config.toml": b"\n".join(lines[:start] + lines[start + size :])})
        size //= 2
    for place in range(len(case.words)):
        for end in (place + 1, place + 2):
            yield case._replace(words=case.words[:place] + case.words[end:])


def _complaint(line: str) -> str:
    """What is wrong with a line of refusal, if anything is."""
    if "\n" in line or len(line) > _LONGEST:
        return f"refused in more than a line: {line}"
    return "" if _NAMED.search(line) else f"refused without a field: {line}"


def _kind_of(error: Exception) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {Path(last.filename).name}, {last.name}: {' '.join(str(error).split())[:300]}"


def _shown(case: Case) -> str:
    if case.kind == "run":
        return f"a run directory, input {case.number}"
    config = case.files["config.toml"].decode(errors="backslashreplace").strip()
    return f"{config[:2000]}\n{shlex.join(case.words)}".strip()


@contextmanager
def _in_time() -> Iterator[None]:
    """Raise where there is no answer for too long."""

    def late(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"no answer in {_PATIENCE} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(_PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
