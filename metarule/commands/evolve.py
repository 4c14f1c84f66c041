"""Search for the structure of a rule: `python -m metarule.evolve CONFIG [--section.field VALUE …]`."""

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
from metarule.analysis.structure_search.masked import Fitted, fit
from metarule.analysis.structure_search.search import (
    Candidate,
    Generation,
    first_generation,
    next_generation,
    pareto_front,
)
from metarule.analysis.structure_search.variation import Structure, TermLibrary, term_library
from metarule.commands import cli
from metarule.config.help import Source
from metarule.config.schema import Checked
from metarule.config.toml import ConfigError, decode, parse_overrides
from metarule.meta import Gradient
from metarule.meta.phases import resolved, total_steps
from metarule.prng import Purpose, run_key, stream
from metarule.runs import figures
from metarule.runs.directory import FIGURES, SEARCH, locked_run, read_experiment, start_run, timestamped
from metarule.runs.environment import record_environment
from metarule.runs.experiment import Experiment, read_experiment_file
from metarule.runs.files import read_json, write_json
from metarule.runs.stopping import Stopped, StopRequest
from metarule.runs.theta_files import flat_parameters
from metarule.tasks.base import primary_metric
from metarule.tasks.scores import DIVERGED
from metarule.types import PRNGKey

__all__ = ["FIELDS", "USAGE", "Options", "main"]

USAGE = """\
usage: metarule evolve CONFIG [--TABLE.FIELD VALUE ...] [--overwrite]
       metarule evolve --resume RUN_DIR

Search for the terms that a rule needs, among those of the rule of CONFIG. A genetic algorithm crosses and mutates sets
of terms, gradient descent finds their coefficients, and selection keeps the sets that no other beats in both meta-loss
and number of terms. Result: the Pareto front of held-out score against number of terms, with its equations.

  CONFIG                 TOML file, such as configs/structure-search.toml; its optimizer is gradient descent
  --TABLE.FIELD VALUE    set a field of the config, or of the search (--evolve.FIELD VALUE)
  --overwrite            replace the run in --run.directory
  --resume RUN_DIR       continue from the last generation of a run
  --help [TABLE]         this text, or the fields of a table
"""
_FRONT, _FIGURE = "front.json", "front.png"
_PREFIX = "evolve."
_LARGEST_FLOAT = float(np.finfo(np.float64).max)


class Options(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of the structure search.

    Attributes:
        generations: generations after the first.
        population: structures that survive each generation.
        steps: meta-steps that fit the coefficients of a structure; those of the front get all steps of the config.
        lifetimes: training lifetimes that evaluate a structure.
        chunk_size: structures fitted at once, which bounds the memory.
    """

    generations: Annotated[int, Meta(ge=1, le=1_000_000)] = 20
    population: Annotated[int, Meta(ge=4, le=100_000)] = 24
    steps: Annotated[int, Meta(ge=1, le=1_000_000)] = 60
    lifetimes: Annotated[int, Meta(ge=1, le=1_000_000)] = 256
    chunk_size: Annotated[int, Meta(ge=1, le=100_000)] = 8


FIELDS = (Source(Options, table=_PREFIX.removesuffix(".")), Source(Experiment))


class _Request(NamedTuple):
    """Arguments of the command line."""

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
    with ExitStack() as stack:
        return _run(_resume(words, stack) if words[0] == "--resume" else _start(words, stack))


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
    tasks, metric = describe_split(experiment.split), primary_metric(experiment.tasks)
    print(f"fitting the front, and evaluating it on {tasks} …", flush=True)
    rows = _evaluate_front(request, terms, generation)
    report = {
        "metric": metric,
        "of": tasks,
        "lifetimes": experiment.evaluation.lifetimes,
        "structures": rows,
        "evaluated": len(generation.evaluated),
        "library": terms.names,
        "seconds": time.perf_counter() - clock,
    }
    write_json(directory / _FRONT, report)
    figure = directory / FIGURES / _FIGURE
    figures.draw_front(figure, rows, metric, f"{tasks}: mean and 95 % interval over tasks")
    print(f"\n{_table(report)}\n")
    print(f"figure: {figure}   numbers: {directory / _FRONT}")
    return 0


def _start(words: list[str], stack: ExitStack) -> _Request:
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
    default = timestamped(Path("runs", config.stem), f"-structures-s{experiment.seed}")
    directory = Path(experiment.run.directory) if experiment.run.directory else default
    stack.enter_context(locked_run(directory))
    start_run(directory, experiment, given, overwrite)
    return _Request(experiment, options, directory)


def _resume(words: list[str], stack: ExitStack) -> _Request:
    if len(words) != 2:
        raise ConfigError("--resume takes one run directory and nothing else: the settings are those of the run")
    directory = Path(words[1])
    read_experiment(directory)  # before the lock, which would leave its file in a directory without a run
    stack.enter_context(locked_run(directory))
    record_environment(directory)
    return _Request(read_experiment(directory), _read_search(directory / SEARCH).options, directory)


def _check(experiment: Experiment) -> None:
    if not isinstance(experiment.optimizer, Gradient):
        kind = type(experiment.optimizer).__name__
        raise ConfigError(f"optimizer = {kind}: coefficients are found by gradient descent; allowed: gradient")
    if experiment.seeds > 1:
        raise ConfigError(f"seeds = {experiment.seeds}: a structure search has one seed; allowed: 1")
    term_library(experiment.lifetime)


def _search(request: _Request, terms: TermLibrary, stop: StopRequest) -> Generation:
    """Search from the last saved generation to the final one."""
    options, seed, file = request.options, request.experiment.seed, request.directory / SEARCH

    def fit_losses(structures: Sequence[Structure]) -> list[float]:
        key = jax.random.fold_in(stream(run_key(seed), Purpose.STRUCTURES), 0)
        return np.asarray(_fit(request, terms, structures, options.steps, key).loss, float).tolist()

    if not file.exists():
        write_json(file, {"options": asdict(options)})
    generation = _restore(file, terms)
    with tqdm(total=options.generations + 1, desc="generations", disable=None) as bar:
        while generation is None or generation.number < options.generations:
            stop.answer(0)
            if generation is None:
                generation = first_generation(terms, options.population, seed, fit_losses)
            else:
                generation = next_generation(generation, terms, options.population, seed, fit_losses)
            _save(file, options, generation, terms)
            best = min(generation.population, key=lambda one: one.loss)
            status = f"{len(generation.evaluated)} structures, best meta-loss {best.loss:.4f}"
            status += f" with {len(best.structure)} terms"
            bar.set_postfix_str(status, refresh=False)
            bar.update(generation.number + 1 - bar.n)
            if bar.disable:
                print(f"generation {generation.number} of {options.generations}: {status}", flush=True)
    return generation


def _fit(request: _Request, terms: TermLibrary, structures: Sequence[Structure], steps: int, key: PRNGKey) -> Fitted:
    """Fit structures in chunks of one size, so that one compiled program serves all."""
    experiment, options = request.experiment, request.options
    optimizer, _ = resolved(experiment.optimizer, experiment.lifetime, runs=options.chunk_size)
    assert isinstance(optimizer, Gradient)
    optimizer, pool = replace(optimizer, steps=steps), experiment.split.train
    results = []
    for start in range(0, len(structures), options.chunk_size):
        chunk = list(structures[start : start + options.chunk_size])
        masks = _masks(chunk + chunk[:1] * (options.chunk_size - len(chunk)), terms)
        results.append(fit(experiment.lifetime, optimizer, pool, key, masks, options.lifetimes, options.chunk_size))
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[: len(structures)], *results)


def _masks(structures: Sequence[Structure], terms: TermLibrary) -> Bool[Array, "structures terms"]:
    return jnp.array([[term in structure for term in range(len(terms.names))] for structure in structures])


def _evaluate_front(request: _Request, terms: TermLibrary, generation: Generation) -> list[dict[str, Any]]:
    """Evaluate the Pareto front of the last population on held-out tasks.

    The population is fitted again with the meta-steps of the config and on other training lifetimes, and the front is
    that of the new meta-losses: the best of hundreds of structures on the lifetimes of the search are partly lucky.
    """
    experiment, structures = request.experiment, [one.structure for one in generation.population]
    lifetime, split, run = experiment.lifetime, experiment.split, run_key(experiment.seed)
    key = jax.random.fold_in(stream(run, Purpose.STRUCTURES), 1)
    fitted = _fit(request, terms, structures, total_steps(experiment.optimizer), key)
    candidates = [Candidate(one, float(loss)) for one, loss in zip(structures, fitted.loss, strict=True)]
    rows = []
    for one in pareto_front(candidates):
        theta = fitted.theta[structures.index(one.structure)]
        key, lifetimes = stream(run, Purpose.HELD_OUT), experiment.evaluation.lifetimes
        curves = jax.device_get(learning_curves(lifetime, theta, split.test, key, lifetimes, 1))
        row = {"terms": len(one.structure), "names": [terms.names[term] for term in sorted(one.structure)]}
        row |= interval(by_task(curves, primary_metric(experiment.tasks))[:, -1], share=True)._asdict()
        row |= {DIVERGED: int(curves.metrics[DIVERGED][:, -1].sum()), "meta_loss": one.loss}
        rows.append(row | {"equation": lifetime.equation(theta), "theta": flat_parameters(lifetime, theta)})
    return rows


class _Evaluated(Struct, frozen=True):
    """A structure and its meta-loss; None for one that is not finite."""

    terms: tuple[str, ...]
    meta_loss: Annotated[float, Meta(ge=-_LARGEST_FLOAT, le=_LARGEST_FLOAT)] | None


class _SavedSearch(Struct, frozen=True):
    """State of a search; `population` holds indices into `evaluated`."""

    options: Options
    generation: int | None = None
    population: tuple[int, ...] = ()
    evaluated: tuple[_Evaluated, ...] = ()


def _save(file: Path, options: Options, generation: Generation, terms: TermLibrary) -> None:
    index = {structure: number for number, structure in enumerate(generation.evaluated)}
    evaluated = [
        {"terms": [terms.names[term] for term in sorted(structure)], "meta_loss": loss}
        for structure, loss in generation.evaluated.items()
    ]
    population = [index[one.structure] for one in generation.population]
    state = {"options": asdict(options), "generation": generation.number, "population": population}
    write_json(file, state | {"evaluated": evaluated})


def _read_search(file: Path) -> _SavedSearch:
    tree = read_json(file)
    if tree is None:
        raise ConfigError(f"{file.parent}: it holds no structure search: it has no {file.name}")
    try:
        return msgspec.convert(tree, _SavedSearch)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{file}: damaged: {error}") from error


def _restore(file: Path, terms: TermLibrary) -> Generation | None:
    """Restore the last saved generation; None if there is none."""
    saved = _read_search(file)
    if saved.generation is None:
        return None
    try:
        evaluated = [
            Candidate(frozenset(map(terms.names.index, one.terms)), np.inf if one.meta_loss is None else one.meta_loss)
            for one in saved.evaluated
        ]
        population = tuple(evaluated[number] for number in saved.population)
    except (IndexError, ValueError) as error:
        raise ConfigError(f"{file}: damaged: {error}") from error
    return Generation(saved.generation, population, dict(evaluated))


def _table(report: dict[str, Any]) -> str:
    lines = [
        f"{report['evaluated']} structures evaluated; the front on {report['of']}:",
        f"{'terms':>5}{report['metric']:>10}   {'95 % interval':<18}{'diverged':>10}",
    ]
    for row in report["structures"]:
        numbers = (
            f"{row['terms']:>5}{row['mean']:>10.4f}   {interval_text(row['low'], row['high']):<18}{row[DIVERGED]:>10}"
        )
        lines.append(f"{numbers}   {row['equation']}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
