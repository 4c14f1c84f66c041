"""Try a learned rule on new tasks: `python -m metarule.evaluate RUN_DIR [--section.field VALUE …]`."""

import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import jax
from msgspec import Meta, Struct
from msgspec.structs import asdict

from metarule import artifacts, cli, figures
from metarule.comparison import REACH, SHOTS, Contender, by_task, compare, held_out, points_of, table
from metarule.config import ConfigError, decode, parse_overrides
from metarule.evaluation import Curves
from metarule.experiment import Experiment, to_tree
from metarule.finished import Finished, contenders, new_place, novelty, other_tasks, read_finished
from metarule.reports import phenomena_table, report_phenomena
from metarule.results import keep_curves
from metarule.schema import describe
from metarule.streams import Purpose, run_key, stream
from metarule.tasks.conditioning import Conditioning

__all__ = ["Options", "main"]

_USAGE = """\
usage: python -m metarule.evaluate RUN_DIR [--option VALUE ...] [--section.field VALUE ...]

Try the rule that a finished run has learned on new tasks, with θ as it is: those that the run held out, or others, such
as --tasks.kind points, or --tasks.dataset iris. Fresh networks live through each task; beside them live the initial
rule, and the baselines at the rates at which the run had tuned them. Out come the score against presentations, the
presentations needed to reach a score, and the score on examples that were not presented, for each task and in the mean.

RUN_DIR                            directory of a run of one seed
--section.field VALUE              set a field of tasks, circuit, inner_loop or evaluation, as for metarule.train;
                                   output neurons follow the tasks
--help                             this text

Options [defaults]:
"""
_BY_TASK = "tasks.csv"


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How new tasks are met.

    Attributes:
        reach: score to be reached.
        networks: fresh networks that meet each task; `evaluation.lifetimes` is how many there are of all.
        draw: number of the draw of weights and orders, to look at others.
        directory: where the results go; empty for a folder in the run's directory.
    """

    reach: Annotated[float, Meta(description="score of which it is said when it is reached")] = REACH
    networks: Annotated[int, Meta(ge=1, le=100_000, description="fresh networks that meet each task")] = 4
    draw: Annotated[int, Meta(ge=0, lt=2**31, description="another number for other weights and orders")] = 0
    directory: Annotated[str, Meta(description="where results go; default RUN_DIR/evaluations/<time>")] = ""


def main(words: list[str]) -> int:
    """Run the command.

    Args:
        words: of the command line, without the program's name.

    Returns:
        Exit status: 0 done, 2 bad input, 128 + SIGINT if stopped.
    """
    usage = (_USAGE + describe(Options)).rstrip()
    return cli.run("metarule.evaluate", words, lambda: usage, lambda: _serve(words), "nothing was written")


def _serve(words: list[str]) -> int:
    if words[0].startswith("-"):
        raise ConfigError(f"'{words[0]}': the directory of a run comes first; see --help")
    pairs = parse_overrides(words[1:])
    options = decode({name: value for name, value in pairs if "." not in name}, Options)
    run = read_finished(Path(words[0]))
    experiment = other_tasks(run, [pair for pair in pairs if "." in pair[0]])
    tasks = experiment.evaluation.lifetimes // options.networks
    if not tasks:
        raise ConfigError(
            f"networks = {options.networks}: there are {experiment.evaluation.lifetimes} lives in all "
            "(evaluation.lifetimes); allowed: at most as many"
        )
    path = new_place(run, artifacts.EVALUATIONS, options.directory)
    print(f"{novelty(run, experiment)}: {tasks} tasks, {options.networks} networks each", flush=True)
    met = contenders(run, experiment)
    seen = _live(experiment, met, tasks, options)
    found = _judge(run, experiment, options, seen, tasks)
    if isinstance(experiment.tasks, Conditioning):
        key = stream(run_key(experiment.seed), Purpose.PHENOMENA)
        split, folder = experiment.tasks.split(experiment.seed), path / artifacts.FIGURES
        found["phenomena"] = report_phenomena(folder, met, split, key, experiment.evaluation.lifetimes)
    _keep(path, experiment, found, seen, tasks, options.reach)
    print(f"\n{table(found['held_out'], 'tasks')}\n")
    if "phenomena" in found:
        print(f"{phenomena_table(found['phenomena'])}\n")
    print(f"figures: {path / artifacts.FIGURES}   numbers: {path / 'summary.json'}, {_BY_TASK}")
    return 0


def _live(experiment: Experiment, met: Mapping[str, Contender], tasks: int, options: Options) -> dict[str, Curves]:
    """Lives on test tasks of the run's own split, whatever the tasks: what was trained on stays out."""
    lifetime, seed = experiment.lifetime, experiment.seed
    key = jax.random.fold_in(stream(run_key(seed), Purpose.EVALUATION), options.draw)
    points = points_of(lifetime, experiment.evaluation.points)
    return compare(met, lifetime.tasks.split(seed).test, key, tasks * options.networks, points, tasks)


def _judge(
    run: Finished, experiment: Experiment, options: Options, seen: Mapping[str, Curves], tasks: int
) -> dict[str, Any]:
    rates = {name: {"learning_rate": rate} for name, rate in run.rates.items() if name in seen}
    return {
        "run": str(run.path),
        "novelty": novelty(run, experiment),
        "options": asdict(options),
        "equation": run.experiment.lifetime.equation(run.theta),
        "held_out": held_out(experiment.lifetime, seen, rates, options.reach, tasks),
        "experiment": to_tree(experiment),
    }


def _keep(
    path: Path, experiment: Experiment, found: Mapping[str, Any], seen: Mapping[str, Curves], tasks: int, reach: float
) -> None:
    score = experiment.tasks.score
    rows = list(_rows(seen, score, tasks, experiment.tasks.shot, reach))
    with (path / _BY_TASK).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    finals = {name: by_task(curve.metrics[score][:, -1], tasks).tolist() for name, curve in seen.items()}
    (path / artifacts.FIGURES).mkdir(exist_ok=True)
    keep_curves(path, seen, score, tasks)
    figures.draw_tasks(path / artifacts.FIGURES / "tasks.png", finals, score)
    artifacts.write_json(path / "summary.json", found)


def _rows(seen: Mapping[str, Curves], score: str, tasks: int, shot: int, reach: float) -> Iterator[dict[str, Any]]:
    """One row a contender and task: means over its networks, and the presentations after which `reach` is reached."""
    for name, curve in seen.items():
        where, values = curve.presentations.tolist(), by_task(curve.metrics[score], tasks)
        for task, line in enumerate(values):
            few = {f"{shots}_each": line[where.index(shots * shot)] for shots in _shots(where, shot)}
            row = {"contender": name, "task": task, score: line[-1], "born": line[0]}
            yield row | {"reached": _first(line, where, reach)} | few


def _first(line: Sequence[float], where: Sequence[int], reach: float) -> int | None:
    return next((at for value, at in zip(line, where, strict=True) if value >= reach), None)


def _shots(where: Sequence[int], shot: int) -> tuple[int, ...]:
    return tuple(shots for shots in SHOTS if shot and shots * shot in where)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
