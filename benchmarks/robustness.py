"""Does meta-training survive, with every seed? `python -m benchmarks.robustness [--quick] [--json FILE]`."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from msgspec import Meta, Struct

from metarule.commands import cli, sweep
from metarule.config.schema import describe
from metarule.config.toml import decode, parse_overrides
from metarule.runs.files import read_json
from metarule.sweeps.cells import DONE
from metarule.sweeps.report import CELLS, PLAN, make_report
from metarule.sweeps.rows import check_place, write_rows

__all__ = ["Options", "main", "robustness", "table"]

_USAGE = """\
usage: python -m benchmarks.robustness [--quick] [--option VALUE ...]

Run two sweeps and make one table of them: benchmarks/sweeps/robustness.toml, twenty seeds each of short and long lifetimes,
and benchmarks/sweeps/ablation.toml, which leaves out one part after another of what keeps training alive. Started again
it goes on where it was stopped; several processes share the work.

--quick                            two cases of the first sweep, two seeds and ten meta-steps: under a minute
--help                             this text

Options [defaults]:
"""
_SWEEPS = ("robustness", "ablation")
_FOLDER = Path(__file__).parent / "sweeps"
# Seeds are as good as the best if their score is at most so far from it.
_NEAR = 0.03


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the sweeps are run.

    Attributes:
        directory: where they are kept.
        json: file for the rows of the table.
    """

    directory: Annotated[str, Meta(min_length=1, description="where the two sweeps are kept")] = "runs/sweeps"
    json: Annotated[str, Meta(description="file for the rows of the table; none if empty")] = ""


def main(words: list[str]) -> int:
    """Run the command.

    Args:
        words: of the command line, without the program's name.

    Returns:
        Exit status: 0 done, 1 if some cells failed or a figure could not be drawn, 2 for bad input, 128 + signal if
        stopped.
    """
    usage = (_USAGE + describe(Options)).rstrip()
    kept = "what is done is kept"
    return cli.run("benchmarks.robustness", words, lambda: usage, _serve, kept, bare=True)


def robustness(directory: Path) -> list[dict[str, Any]]:
    """How the seeds of each setting of a sweep ended.

    Args:
        directory: of the sweep.

    Returns:
        One row a setting: its `seeds`, how many of them are `finite`, the `best` and the `worst` score, how many are
        `within_3_points` of the best, the share of training lifetimes that `diverged`, the share of meta-steps that were
        taken `back`, and the median over seeds of the `growth` of a disturbance in the most chaotic life. What no seed
        has is None.

    Raises:
        ConfigError: a directory that holds no sweep, or one of which no cell is done.
    """
    report = make_report(directory)
    return list(_rows(directory.name, report.rows, report.score, read_json(directory / PLAN)))


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows for the screen."""
    width = max(len(row["setting"]) for row in rows) + 2
    head = f"{'setting':<{width}}{'seeds':>6}{'finite':>8}{'best':>8}{'worst':>8}{'within_3_points':>17}"
    lines = [head + f"{'diverged':>10}{'back':>8}{'growth':>9}"]
    for row in rows:
        counts = f"{row['setting']:<{width}}{row['seeds']:>6}{row['finite']:>8}"
        scores = f"{_shown(row['best'], 3):>8}{_shown(row['worst'], 3):>8}{row['within_3_points']:>17}"
        lines.append(counts + scores + f"{row['diverged']:>10.4f}{row['back']:>8.3f}{_shown(row['growth'], 4):>9}")
    return "\n".join(lines)


def _serve(words: list[str]) -> int:
    quick = ["--quick"] if "--quick" in words else []
    options = decode(dict(parse_overrides([word for word in words if word not in quick])), Options)
    check_place(options.json)
    rows, status = [], 0
    for name in _SWEEPS[:1] if quick else _SWEEPS:
        directory = Path(options.directory) / (f"{name}-quick" if quick else name)
        done = sweep.main([str(_FOLDER / f"{name}.toml"), "--directory", str(directory), *quick])
        if done > 1:
            return done
        status = max(status, done)
        rows += robustness(directory) if any(directory.glob(f"{CELLS}/*/{DONE}")) else []
    if rows:
        print(f"\n{table(rows)}")
    write_rows(options.json, rows)
    return status


def _rows(
    name: str, found: Sequence[Mapping[str, Any]], score: str, plan: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    for setting in plan["settings"]:
        metrics: dict[str, list[float]] = {}
        seeds = set()
        for row in found:
            if row["setting"] == setting["label"]:
                seeds.add(row["seed"])
                metrics.setdefault(row["metric"], []).extend([] if row["value"] is None else [row["value"]])
        if not metrics:  # its cell failed, or is not done
            continue
        optimizer, scores, lyapunov_exponent = (
            setting["experiment"]["optimizer"],
            metrics[score],
            metrics["lyapunov_exponent"],
        )
        best = max(scores, default=np.nan)
        yield {
            "sweep": name,
            "setting": setting["label"],
            "seeds": len(seeds),
            "finite": int(sum(metrics["finite"])),
            "best": max(scores, default=None),
            "worst": min(scores, default=None),
            "within_3_points": sum(value >= best - _NEAR for value in scores),
            "diverged": float(np.mean(metrics["nonfinite_lifetimes"])) / (optimizer["steps"] * optimizer["tasks"]),
            "back": float(np.mean(metrics["rejected_steps"])) / optimizer["steps"],
            "lyapunov_exponent": float(np.median(lyapunov_exponent)) if lyapunov_exponent else None,
        }


def _shown(value: float | None, digits: int) -> str:
    return "none" if value is None else f"{value:.{digits}f}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
