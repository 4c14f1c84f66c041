"""Find a shorter rule that is worth the same: `python -m metarule.prune RUN_DIR [--tolerance T] [--lifetimes N]`."""

import sys
import time
from typing import Annotated, Any

from msgspec import Meta
from msgspec.structs import asdict
from tqdm import tqdm

from metarule import artifacts, cli
from metarule.config import decode, parse_overrides
from metarule.experiment import Experiment
from metarule.finished import Finished, opened
from metarule.lifetime import Lifetime
from metarule.pruning import Pruned, Trial, prune, terms
from metarule.schema import Checked, describe
from metarule.statistics import Interval, interval
from metarule.streams import Purpose, run_key, stream
from metarule.training import meaning, named
from metarule.types import Theta

__all__ = ["Options", "main"]

_USAGE = """\
usage: python -m metarule.prune RUN_DIR [--tolerance VALUE] [--lifetimes VALUE]

Remove terms of the rule that a finished run has learned, as long as the score on held-out tasks stays within the
tolerance, and print the shorter equation. It is written to pruned.npz and pruned.json beside the run's theta.

RUN_DIR                            directory of a run of one seed, whose rule is a polynomial
--help                             this text

Options [defaults]:
"""


class Options(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much a shorter rule may cost, and how surely that is known.

    Attributes:
        tolerance: how far the held-out score may fall.
        lifetimes: lives in each of the three draws that order, decide and report.
    """

    tolerance: Annotated[float, Meta(ge=0, description="how far the held-out score may fall")] = 0.01
    lifetimes: Annotated[int, Meta(ge=2, le=1_000_000, description="lives that each look at a rule takes")] = 512


def main(words: list[str]) -> int:
    """Run the command.

    Args:
        words: of the command line, without the program's name.

    Returns:
        Exit status: 0 done, 1 if a device or disk failed, 2 bad input, 128 + signal if stopped.
    """
    usage = (_USAGE + describe(Options)).rstrip()
    return cli.run("metarule.prune", words, lambda: usage, _serve, "what was written before is kept")


def _serve(words: list[str]) -> int:
    with opened(words[0]) as run:
        return _run(run, decode(dict(parse_overrides(words[1:])), Options))


def _run(run: Finished, options: Options) -> int:
    path, experiment, theta, _, _ = run
    lifetime = experiment.lifetime
    count = len(terms(lifetime, theta))
    print(f"{lifetime.equation(theta)}\n", flush=True)
    clock = time.perf_counter()
    pruned = _prune(experiment, theta, options, 2 * count)
    found = _found(lifetime, pruned) | {"options": asdict(options), "seconds": time.perf_counter() - clock}
    print(f"\n{_table(found, lifetime.tasks.score, options.lifetimes)}\n")
    print(f"{len(found['removed'])} of {count} terms removed:\n\n{found['equation']}\n")
    artifacts.save_theta(path, pruned.theta, meaning(lifetime) | found, name="pruned")
    print(f"θ: {path / 'pruned.npz'}   numbers: {path / 'pruned.json'}")
    return 0


def _prune(experiment: Experiment, theta: Theta, options: Options, looks: int) -> Pruned:
    lifetime = experiment.lifetime
    with tqdm(total=looks, desc="looking at shorter rules", unit="rule", disable=None) as bar:

        def progress(trial: Trial) -> None:
            if trial.outcome == "removed":
                tqdm.write(f"without {trial.term:<40} {lifetime.tasks.score} {trial.score:.4f}")
            bar.update()

        return prune(
            lifetime,
            theta,
            experiment.split,
            stream(run_key(experiment.seed), Purpose.PRUNING),
            options.lifetimes,
            options.tolerance,
            progress,
        )


def _found(lifetime: Lifetime, pruned: Pruned) -> dict[str, Any]:
    return {
        "equation": lifetime.equation(pruned.theta),
        "theta": named(lifetime, pruned.theta),
        "removed": pruned.removed,
        "held_out": {
            "metric": lifetime.tasks.score,
            "tasks": pruned.before.size,
            "before": interval(pruned.before),
            "after": interval(pruned.after),
            "difference": interval(pruned.after - pruned.before),
        },
        "trials": pruned.trials,
    }


def _table(found: dict[str, Any], score: str, lifetimes: int) -> str:
    """What the rule was and is worth, for the screen."""
    rows: dict[str, Interval] = {name: found["held_out"][name] for name in ("before", "after", "difference")}
    title = f"held-out tasks, {lifetimes} other lives"
    return "\n".join(
        [f"{title:<36}{score:>8}   95 % interval"]
        + [f"  {name:<34}{row.mean:>8.4f}   {row.low:.4f} to {row.high:.4f}" for name, row in rows.items()]
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
