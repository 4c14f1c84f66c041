"""Search for the form of a rule: `python -m metarule.evolve CONFIG [--section.field VALUE …]`."""

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from shlex import quote
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
from jaxtyping import Array, Bool
from msgspec import Meta, Struct
from msgspec.structs import asdict, replace
from tqdm import tqdm

from metarule.analysis.comparison import by_task, describe_split
from metarule.analysis.evaluation import learning_curves
from metarule.analysis.statistics import interval, interval_text
from metarule.analysis.structure_search import (
    Candidate,
    Fitted,
    Generation,
    Structure,
    TermLibrary,
    first_generation,
    fit,
    next_generation,
    pareto_front,
    term_library,
)
from metarule.commands import cli
from metarule.config.help import Source
from metarule.config.schema import Checked
from metarule.config.toml import ConfigError, decode, parse_overrides
from metarule.meta import Gradient
from metarule.meta.phases import resolved, total_steps
from metarule.prng import Purpose, run_key, stream
from metarule.runs import artifacts, figures
from metarule.runs.experiment import Experiment, read_experiment_file
from metarule.runs.stopping import Stopped, StopRequest
from metarule.runs.training import flat_parameters
from metarule.tasks.base import primary_metric
from metarule.tasks.scores import DIVERGED
from metarule.types import PRNGKey

__all__ = ["FIELDS", "USAGE", "Options", "main"]

USAGE = """\
usage: metarule evolve CONFIG [--TABLE.FIELD VALUE ...] [--overwrite]
       metarule evolve --resume RUN_DIR

Search for the terms that a rule needs, among those of the rule of CONFIG, by genetic programming: forms are crossed and
mutated, gradient descent finds the coefficients of each, and those survive that no other beats both in meta-loss and in
number of terms. Out comes a Pareto front of the held-out score against the number of terms, with its equations.

  CONFIG                 TOML file, such as configs/structure-search.toml; its optimizer is gradient descent
  --TABLE.FIELD VALUE    set a field of the config, or of the search (--evolve.FIELD VALUE)
  --overwrite            replace the run in --run.directory
  --resume RUN_DIR       continue from the last generation of a run
  --help [TABLE]         this text, or the fields of a table
"""
_FRONT, _FIGURE = "front.json", "front.png"
_PREFIX = "evolve."
# No meta-loss that is finite is higher.
_HIGHEST = float(np.finfo(np.float64).max)


class Options(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How forms are searched for.

    Attributes:
        generations: generations after the first.
        population: forms that survive each.
        steps: meta-steps in which the coefficients of a form are found; those of the front have all of the config's.
        lifetimes: training lifetimes on which a set of terms is scored.
        chunk_size: forms side by side, which bounds the memory.
    """

    generations: Annotated[int, Meta(ge=1, le=1_000_000)] = 20
    population: Annotated[int, Meta(ge=4, le=100_000)] = 24
    steps: Annotated[int, Meta(ge=1, le=1_000_000)] = 60
    lifetimes: Annotated[int, Meta(ge=1, le=1_000_000)] = 256
    chunk_size: Annotated[int, Meta(ge=1, le=100_000)] = 8


FIELDS = (Source(Options, table=_PREFIX.removesuffix(".")), Source(Experiment))


class _Request(NamedTuple):
    """What the command line asks for."""

    experiment: Experiment
    options: Options
    directory: Path


def main(words: list[str]) -> int:
    """Run the command.

    Args:
        words: of the command line, without the program's name.

    Returns:
        Exit status: 0 done, 1 if a device or disk failed or a figure could not be drawn, 2 bad input, 128 +
        signal if stopped.
    """
    kept = "generations before this one are kept"
    return cli.run("metarule.evolve", words, USAGE, _serve, kept, FIELDS)


def _serve(words: list[str]) -> int:
    with ExitStack() as held:
        return _run(_resumed(words, held) if words[0] == "--resume" else _begun(words, held))


@figures.drawn_last()
def _run(request: _Request) -> int:
    experiment, directory = request.experiment, request.directory
    print(f"run: {directory}", flush=True)
    terms = term_library(experiment.lifetime)
    clock = time.perf_counter()
    try:
        with StopRequest() as stop:
            generation = _search(request, terms, stop)
    except Stopped:
        print(f"\nstopped; go on with: python -m metarule.evolve --resume {quote(str(directory))}", file=sys.stderr)
        return 128 + stop.signal_number
    of = describe_split(experiment.split)
    print(f"learning the coefficients of the front, and measuring it on {of} …", flush=True)
    rows = _judged(request, terms, generation)
    found = {
        "metric": primary_metric(experiment.tasks),
        "of": of,
        "lifetimes": experiment.evaluation.lifetimes,
        "forms": rows,
    }
    found |= {"tried": len(generation.evaluated), "library": terms.names, "seconds": time.perf_counter() - clock}
    artifacts.write_json(directory / _FRONT, found)
    picture = directory / artifacts.FIGURES / _FIGURE
    figures.draw_front(picture, rows, primary_metric(experiment.tasks), f"{of}: mean and 95 % interval over tasks")
    print(f"\n{_table(rows, primary_metric(experiment.tasks), len(generation.evaluated), of)}\n")
    print(f"figure: {picture}   numbers: {directory / _FRONT}")
    return 0


def _begun(words: list[str], held: ExitStack) -> _Request:
    if words[0].startswith("-"):
        raise ConfigError(f"'{words[0]}': a config file comes first, or --resume; see --help")
    config, overwrite = Path(words[0]), "--overwrite" in words
    pairs = parse_overrides([word for word in words[1:] if word != "--overwrite"])
    own = [pair for pair in pairs if pair[0].startswith(_PREFIX)]
    experiment, given = read_experiment_file(config, [pair for pair in pairs if pair not in own])
    try:
        _check(experiment)
    except ConfigError as error:
        raise ConfigError(f"{config}: {error}") from error
    try:
        options = decode({name.removeprefix(_PREFIX): value for name, value in own}, Options)
    except ConfigError as error:
        raise ConfigError(f"{_PREFIX}{error}") from error
    default = artifacts.named_by_time(Path("runs", config.stem), f"-forms-s{experiment.seed}")
    directory = Path(experiment.run.directory) if experiment.run.directory else default
    held.enter_context(artifacts.claimed(directory))
    artifacts.start(directory, experiment, given, overwrite)
    return _Request(experiment, options, directory)


def _resumed(words: list[str], held: ExitStack) -> _Request:
    if len(words) != 2:
        raise ConfigError("--resume takes one run directory and nothing else: the run goes on as it was begun")
    directory = Path(words[1])
    artifacts.read_experiment(directory)  # or a lock would be left where there is no run
    held.enter_context(artifacts.claimed(directory))
    artifacts.join_environment(directory)
    return _Request(artifacts.read_experiment(directory), _kept(directory / artifacts.FORMS).options, directory)


def _check(experiment: Experiment) -> None:
    if not isinstance(experiment.optimizer, Gradient):
        kind = type(experiment.optimizer).__name__
        raise ConfigError(f"optimizer = {kind}: coefficients are found by gradient descent; allowed: gradient")
    if experiment.seeds > 1:
        raise ConfigError(f"seeds = {experiment.seeds}: a search for forms has one seed; allowed: 1")
    term_library(experiment.lifetime)


def _search(request: _Request, terms: TermLibrary, stop: StopRequest) -> Generation:
    """From the last generation that is kept to the last one of all."""
    options, seed, file = request.options, request.experiment.seed, request.directory / artifacts.FORMS

    def worth(forms: Sequence[Structure]) -> list[float]:
        key = jax.random.fold_in(stream(run_key(seed), Purpose.STRUCTURES), 0)
        return np.asarray(_fit(request, terms, forms, options.steps, key).loss, float).tolist()

    if not file.exists():
        artifacts.write_json(file, {"options": asdict(options)})
    generation = _restored(file, terms)
    with tqdm(total=options.generations + 1, desc="generations", disable=None) as bar:
        while generation is None or generation.number < options.generations:
            stop.answer(0)
            if generation is None:
                generation = first_generation(terms, options.population, seed, worth)
            else:
                generation = next_generation(generation, terms, options.population, seed, worth)
            _keep(file, options, generation, terms)
            best = min(generation.population, key=lambda one: one.loss)
            tried, count = len(generation.evaluated), len(best.structure)
            says = f"{tried} forms tried, best meta-loss {best.loss:.4f} with {count} terms"
            bar.set_postfix_str(says, refresh=False)
            bar.update(generation.number + 1 - bar.n)
            if bar.disable:
                print(f"generation {generation.number} of {options.generations}: {says}", flush=True)
    return generation


def _fit(request: _Request, terms: TermLibrary, forms: Sequence[Structure], steps: int, key: PRNGKey) -> Fitted:
    """Coefficients and meta-losses, in calls of as many forms as are learned side by side: one program serves all."""
    experiment, options = request.experiment, request.options
    optimizer, _ = resolved(experiment.optimizer, experiment.lifetime, runs=options.chunk_size)
    assert isinstance(optimizer, Gradient)
    pool = experiment.split.train
    found = []
    for start in range(0, len(forms), options.chunk_size):
        some = list(forms[start : start + options.chunk_size])
        masks = _masks(some + some[:1] * (options.chunk_size - len(some)), terms)
        with_steps = replace(optimizer, steps=steps)
        found.append(fit(experiment.lifetime, with_steps, pool, key, masks, options.lifetimes, options.chunk_size))
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[: len(forms)], *found)


def _masks(forms: Sequence[Structure], terms: TermLibrary) -> Bool[Array, "forms terms"]:
    return jnp.array([[term in form for term in range(len(terms.names))] for form in forms])


def _judged(request: _Request, terms: TermLibrary, generation: Generation) -> list[dict[str, Any]]:
    """The front of the last population, on held-out tasks.

    All of it is fitted again, with the meta-steps of the config and on other training lifetimes, and the front is that
    of these meta-losses: among hundreds of forms the best on the lifetimes of the search are in part the luckiest.
    """
    experiment, forms = request.experiment, [one.structure for one in generation.population]
    lifetime, split, run = experiment.lifetime, experiment.split, run_key(experiment.seed)
    fitted = _fit(
        request, terms, forms, total_steps(experiment.optimizer), jax.random.fold_in(stream(run, Purpose.STRUCTURES), 1)
    )
    again = [Candidate(form, float(loss)) for form, loss in zip(forms, fitted.loss, strict=True)]
    rows = []
    for one in pareto_front(again):
        theta = fitted.theta[forms.index(one.structure)]
        key, lifetimes = stream(run, Purpose.HELD_OUT), experiment.evaluation.lifetimes
        seen = jax.device_get(learning_curves(lifetime, theta, split.test, key, lifetimes, 1))
        row = {"terms": len(one.structure), "names": [terms.names[term] for term in sorted(one.structure)]}
        row |= interval(by_task(seen, primary_metric(experiment.tasks))[:, -1], share=True)._asdict()
        row |= {DIVERGED: int(seen.metrics[DIVERGED][:, -1].sum()), "meta_loss": one.loss}
        rows.append(row | {"equation": lifetime.equation(theta), "theta": flat_parameters(lifetime, theta)})
    return rows


class _Met(Struct, frozen=True):
    """A form that was fitted, and its meta-loss; None for one that is not finite."""

    terms: tuple[str, ...]
    meta_loss: Annotated[float, Meta(ge=-_HIGHEST, le=_HIGHEST)] | None


class _Kept(Struct, frozen=True):
    """What a search is resumed from; `population` are places in `met`."""

    options: Options
    generation: int | None = None
    population: tuple[int, ...] = ()
    met: tuple[_Met, ...] = ()


def _keep(file: Path, options: Options, generation: Generation, terms: TermLibrary) -> None:
    places = {form: place for place, form in enumerate(generation.evaluated)}
    met = [
        {"terms": [terms.names[term] for term in sorted(form)], "meta_loss": loss}
        for form, loss in generation.evaluated.items()
    ]
    population = [places[one.structure] for one in generation.population]
    kept = {"options": asdict(options), "generation": generation.number, "population": population, "met": met}
    artifacts.write_json(file, kept)


def _kept(file: Path) -> _Kept:
    tree = artifacts.read_json(file)
    if tree is None:
        raise ConfigError(f"{file.parent}: no search for forms was begun there; it has no {file.name}")
    try:
        return msgspec.convert(tree, _Kept)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{file}: it is damaged: {error}") from error


def _restored(file: Path, terms: TermLibrary) -> Generation | None:
    """The last generation that is kept, if there is one."""
    kept = _kept(file)
    if kept.generation is None:
        return None
    try:
        met = [
            Candidate(frozenset(map(terms.names.index, one.terms)), np.inf if one.meta_loss is None else one.meta_loss)
            for one in kept.met
        ]
        population = tuple(met[place] for place in kept.population)
    except (IndexError, ValueError) as error:
        raise ConfigError(f"{file}: it is damaged: {error}") from error
    return Generation(kept.generation, population, dict(met))


def _table(rows: Sequence[dict[str, Any]], score: str, tried: int, of: str) -> str:
    lines = [f"{tried} forms tried; on {of}:", f"{'terms':>5}{score:>10}   {'95 % interval':<18}{'diverged':>10}"]
    for row in rows:
        numbers = (
            f"{row['terms']:>5}{row['mean']:>10.4f}   {interval_text(row['low'], row['high']):<18}{row[DIVERGED]:>10}"
        )
        lines.append(f"{numbers}   {row['equation']}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
