"""Search for the structure of a rule: `metarule evolve CONFIG [--TABLE.FIELD VALUE …]`."""

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from shlex import quote
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from msgspec import Meta, Struct
from msgspec.structs import asdict, replace
from tqdm import tqdm

from metarule.analysis.comparison import by_task, count_text, describe_split
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
from metarule.commands.opening import new_run, parse_new_run, resumed_run
from metarule.config.help import Source
from metarule.config.imports import import_words
from metarule.config.schema import Checked
from metarule.config.toml import ConfigError, decode_table, override
from metarule.lifetime.initial import learns_initial
from metarule.meta import Gradient
from metarule.meta.phases import resolved, total_steps
from metarule.prng import Purpose, run_key, stream
from metarule.reports.page import print_report
from metarule.runs import figures
from metarule.runs.directory import FIGURES, SEARCH, read_experiment
from metarule.runs.environment import record_environment
from metarule.runs.experiment import Experiment, read_experiment_file
from metarule.runs.figures.canvas import formats
from metarule.runs.files import convert, read_json, write_json
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

  CONFIG                 TOML file, or the name of one that is shipped, such as structure-search; its optimizer is
                         gradient descent
  --TABLE.FIELD VALUE    set a field of the config, or of the search (--evolve.FIELD VALUE)
  --overwrite            replace the run in --run.directory
  --resume RUN_DIR       continue from the last generation of a run
  --help [TABLE]         this text, or the fields of a table
"""
_TABLE = "evolve"
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


FIELDS = (Source(Options, table=_TABLE), Source(Experiment))


class _Search(NamedTuple):
    """A search, its state at the start, and the file that holds its state."""

    experiment: Experiment
    saved: "_Saved"
    terms: TermLibrary
    file: Path

    @property
    def options(self) -> Options:
        """Options of the search."""
        return self.saved.options


def main(words: list[str]) -> int:
    """Run the command with the words of its command line; the exit status is that of `cli.run`."""
    return cli.run("metarule evolve", words, USAGE, _serve, "generations before this one are kept", FIELDS)


def _serve(words: list[str]) -> int:
    with ExitStack() as stack:
        directory = _open(words, stack)
        experiment, file = read_experiment(directory), directory / SEARCH
        stack.enter_context(formats(experiment.run.figure_formats))
        status = _run(_Search(experiment, _saved(file), term_library(experiment.lifetime), file), directory)
        if not status:
            print_report(directory)
        return status


def _open(words: list[str], stack: ExitStack) -> Path:
    """Lock the directory of a new or resumed search."""
    if words[0] == "--resume":
        if len(words) != 2:
            raise ConfigError("--resume takes one run directory, and --devices: other settings are those of the run")
        directory = resumed_run(stack, words[1])
        record_environment(directory)
        return directory
    new = parse_new_run(words)
    config, pairs = new.config, new.pairs
    if new.start:
        raise ConfigError(f"--from '{new.start}': a structure search begins with the terms alone")
    own = [pair for pair in pairs if pair[0].startswith(f"{_TABLE}.")]
    experiment, given = read_experiment_file(config, [pair for pair in pairs if pair not in own])
    try:
        _check(experiment)
    except ConfigError as error:
        raise ConfigError(f"{config}: {error}") from error
    options = decode_table(override({}, own), _TABLE, Options)
    directory = new_run(stack, new, experiment, given, f"-structures-s{experiment.seed}")
    write_json(directory / SEARCH, {"options": asdict(options)})
    return directory


def _check(experiment: Experiment) -> None:
    if not isinstance(experiment.optimizer, Gradient):
        kind = type(experiment.optimizer).__name__
        raise ConfigError(f"optimizer = {kind}: coefficients are found by gradient descent; allowed: gradient")
    if experiment.is_validated:
        raise ConfigError(
            "optimizer.patience, evaluation.theta: a structure search has no validation tasks; allowed: 0, last"
        )
    if learns_initial(experiment.circuit):
        raise ConfigError("circuit.initial = 'learned': a structure search learns rules alone; allowed: random")
    if experiment.seeds > 1:
        raise ConfigError(f"seeds = {experiment.seeds}: a structure search has one seed; allowed: 1")
    term_library(experiment.lifetime)


@figures.drawn_last()
def _run(search: _Search, directory: Path) -> int:
    print(f"run: {directory}", flush=True)
    experiment, clock = search.experiment, time.perf_counter()
    try:
        with StopRequest() as stop:
            generation = _last_generation(search, stop)
    except Stopped as stopped:
        again = f"metarule evolve --resume {quote(str(directory))}{import_words()}"
        print(f"\nstopped; go on with: {again}", file=sys.stderr)
        return 128 + stopped.signal_number
    tasks, metric = describe_split(experiment.split), primary_metric(experiment.tasks)
    print(f"fitting the front, and evaluating it on {tasks} …", flush=True)
    report = {
        "metric": metric,
        "of": tasks,
        "lifetimes": experiment.evaluation.lifetimes,
        "structures": _evaluate_front(search, generation),
        "evaluated": len(generation.evaluated),
        "library": search.terms.names,
        "seconds": time.perf_counter() - clock,
    }
    write_json(directory / "front.json", report)
    figure = directory / FIGURES / "front.png"
    lifetimes = count_text(experiment.evaluation.lifetimes, "networks")
    figures.draw_front(
        figure, report, f"{figures.run_name(directory)}: {len(report['structures'])} rules, each on {lifetimes}"
    )
    print(f"\n{_table(report)}\n\nfigures: {figure.parent}   numbers: {directory / 'front.json'}")
    return 0


def _last_generation(search: _Search, stop: StopRequest) -> Generation:
    """Search from the last saved generation to the final one."""
    options, terms, seed = search.options, search.terms, search.experiment.seed

    def fit_losses(structures: Sequence[Structure]) -> list[float]:
        key = jax.random.fold_in(stream(run_key(seed), Purpose.STRUCTURES), 0)
        return np.asarray(_fit(search, structures, options.steps, key).loss, float).tolist()

    generation = _restore(search)
    with tqdm(total=options.generations + 1, desc="generations", disable=None) as bar:
        while generation is None or generation.number < options.generations:
            stop.answer(0)
            if generation is None:
                generation = first_generation(terms, options.population, seed, fit_losses)
            else:
                generation = next_generation(generation, terms, options.population, seed, fit_losses)
            _save(search, generation)
            best = min(generation.population, key=lambda one: one.loss)
            status = f"{len(generation.evaluated)} structures, best meta-loss {best.loss:.4f}"
            status += f" with {len(best.structure)} terms"
            bar.set_postfix_str(status, refresh=False)
            bar.update(generation.number + 1 - bar.n)
            if bar.disable:
                print(f"generation {generation.number} of {options.generations}: {status}", flush=True)
    return generation


def _fit(search: _Search, structures: Sequence[Structure], steps: int, key: PRNGKey) -> Fitted:
    """Fit structures in chunks of one size, so that one compiled program serves all."""
    experiment, options, size = search.experiment, search.options, search.options.chunk_size
    optimizer, _ = resolved(experiment.optimizer, experiment.lifetime, runs=size)
    assert isinstance(optimizer, Gradient)
    optimizer, pool = replace(optimizer, steps=steps), experiment.split.train
    results = []
    for start in range(0, len(structures), size):
        chunk = list(structures[start : start + size])
        chunk += chunk[:1] * (size - len(chunk))
        masks = jnp.array([[term in structure for term in range(len(search.terms.names))] for structure in chunk])
        results.append(fit(experiment.lifetime, optimizer, pool, key, masks, options.lifetimes, size))
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[: len(structures)], *results)


def _evaluate_front(search: _Search, generation: Generation) -> list[dict[str, Any]]:
    """Evaluate the Pareto front of the last population on held-out tasks.

    The population is fitted again with the meta-steps of the config and on other training lifetimes, and the front is
    that of the new meta-losses: the best of hundreds of structures on the lifetimes of the search are partly lucky.
    """
    experiment, structures = search.experiment, [one.structure for one in generation.population]
    lifetime, split, run = experiment.lifetime, experiment.split, run_key(experiment.seed)
    key = jax.random.fold_in(stream(run, Purpose.STRUCTURES), 1)
    fitted = _fit(search, structures, total_steps(experiment.optimizer), key)
    candidates = [Candidate(one, float(loss)) for one, loss in zip(structures, fitted.loss, strict=True)]
    held_out_key, lifetimes, rows = stream(run, Purpose.HELD_OUT), experiment.evaluation.lifetimes, []
    for one in pareto_front(candidates):
        theta = fitted.theta[structures.index(one.structure)]
        curves = jax.device_get(learning_curves(lifetime, theta, split.test, held_out_key, lifetimes, 1))
        row = {"terms": len(one.structure), "names": _names(search.terms, one.structure)}
        row |= interval(by_task(curves, primary_metric(experiment.tasks))[:, -1], share=True)._asdict()
        row |= {DIVERGED: int(curves.metrics[DIVERGED][:, -1].sum()), "meta_loss": one.loss}
        rows.append(row | {"equation": lifetime.equation(theta), "theta": flat_parameters(lifetime, theta)})
    return rows


def _names(terms: TermLibrary, structure: Structure) -> list[str]:
    return [terms.names[term] for term in sorted(structure)]


class _Evaluated(Struct, frozen=True):
    """A structure and its meta-loss; None for one that is not finite."""

    terms: tuple[str, ...]
    meta_loss: Annotated[float, Meta(ge=-_LARGEST_FLOAT, le=_LARGEST_FLOAT)] | None


class _Saved(Struct, frozen=True):
    """State of a search; `population` holds indices into `evaluated`."""

    options: Options
    generation: int | None = None
    population: tuple[int, ...] = ()
    evaluated: tuple[_Evaluated, ...] = ()


def _save(search: _Search, generation: Generation) -> None:
    losses, structures = generation.evaluated, list(generation.evaluated)
    state = {
        "options": asdict(search.options),
        "generation": generation.number,
        "population": [structures.index(one.structure) for one in generation.population],
        "evaluated": [{"terms": _names(search.terms, one), "meta_loss": losses[one]} for one in structures],
    }
    write_json(search.file, state)


def _saved(file: Path) -> _Saved:
    tree = read_json(file)
    if tree is None:
        raise ConfigError(f"{file.parent}: it holds no structure search: it has no {file.name}")
    saved: _Saved = convert(file, tree, _Saved)
    return saved


def _restore(search: _Search) -> Generation | None:
    """Restore the last saved generation; None if there is none."""
    saved, number = search.saved, search.terms.names.index
    if saved.generation is None:
        return None
    try:
        evaluated = [
            Candidate(frozenset(map(number, one.terms)), np.inf if one.meta_loss is None else one.meta_loss)
            for one in saved.evaluated
        ]
        population = tuple(evaluated[index] for index in saved.population)
    except (IndexError, ValueError) as error:
        raise ConfigError(f"{search.file}: damaged: {error}") from error
    return Generation(saved.generation, population, dict(evaluated))


def _table(report: dict[str, Any]) -> str:
    lines = [f"{report['evaluated']} structures evaluated; the front on {report['of']}:"]
    lines += [f"{'terms':>5}{report['metric']:>10}   {'95 % interval':<18}{'diverged':>10}"]
    for row in report["structures"]:
        bounds = interval_text(row["low"], row["high"])
        lines.append(f"{row['terms']:>5}{row['mean']:>10.4f}   {bounds:<18}{row[DIVERGED]:>10}   {row['equation']}")
    return "\n".join(lines)
