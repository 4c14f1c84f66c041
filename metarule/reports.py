"""What a run of conditioning ends with besides scores: which phenomena are shown, and by whom."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from metarule import figures
from metarule.circuits.conditioning import ConditioningCircuit
from metarule.comparison import INITIAL, LEARNED, Contender
from metarule.lifetime import Lifetime
from metarule.phenomena import respond, shown
from metarule.tasks.conditioning import Conditioning
from metarule.types import PRNGKey, Split

__all__ = ["join_phenomena", "phenomena_table", "report_phenomena"]


def report_phenomena(
    folder: Path, contenders: Mapping[str, Contender], split: Split, key: PRNGKey, runs: int
) -> dict[str, dict[str, Any]]:
    """Share of runs that show each phenomenon, on held-out schedules; and pictures of the learned rule's animals.

    Args:
        folder: where the pictures go.
        contenders: who lives, and under which θ, by name; `learned` and `initial` among them.
        split: of the tasks.
        key: decides weights, timings and intensities, which are the same for all contenders.
        runs: animals a schedule.

    Returns:
        By phenomenon: whether it was trained on, the share of runs in which the learned rule shows it, and the share
        in which the initial rule and the baselines do.
    """
    lifetime = contenders[LEARNED].learner
    tasks = lifetime.tasks
    assert isinstance(lifetime, Lifetime) and isinstance(tasks, Conditioning)
    shares, examples = {}, {}
    for name, (contender, theta) in contenders.items():
        responses = jax.device_get(respond(contender, theta, split.test, key, runs))
        shares[name] = {phenomenon: float(np.mean(held)) for phenomenon, held in shown(tasks, responses).items()}
        examples[name] = responses.example
    if isinstance(lifetime.circuit, ConditioningCircuit):
        figures.draw_circuit(folder / "circuit.png", lifetime.circuit)
    figures.draw_phenomena(folder / "phenomena.png", tasks, examples[LEARNED], shares[LEARNED])
    return {
        phenomenon.name: {
            "trained": number in tasks.trained,
            "shown": shares[LEARNED][phenomenon.name],
            "initial": shares[INITIAL][phenomenon.name],
            "baselines": {
                name: share[phenomenon.name] for name, share in shares.items() if name not in (LEARNED, INITIAL)
            },
        }
        for number, phenomenon in enumerate(tasks.phenomena)
    }


def join_phenomena(reports: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Mean shares over seeds, with that of the learned rule by seed."""
    return {
        name: {
            "trained": first["trained"],
            "shown": float(np.mean([report[name]["shown"] for report in reports])),
            "by_seed": [report[name]["shown"] for report in reports],
            "initial": float(np.mean([report[name]["initial"] for report in reports])),
            "baselines": {
                baseline: float(np.mean([report[name]["baselines"][baseline] for report in reports]))
                for baseline in first["baselines"]
            },
        }
        for name, first in reports[0].items()
    }


def phenomena_table(report: Mapping[str, Any]) -> str:
    """The shares for the screen."""
    others = list(next(iter(report.values()))["baselines"])
    lines = [f"{'shown in this share of runs':<36}" + "".join(f"{name:>17}" for name in (LEARNED, *others, INITIAL))]
    for name, row in report.items():
        values = [row["shown"], *row["baselines"].values(), row["initial"]]
        label = name if row["trained"] else f"{name} (not trained on)"
        lines.append(f"  {label:<34}" + "".join(f"{value:>17.3f}" for value in values))
    return "\n".join(lines)
