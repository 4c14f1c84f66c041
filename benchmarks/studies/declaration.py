"""Declaration of a study: a sweep that learns rules, tests on which they are evaluated, and baselines."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from immutabledict import immutabledict
from msgspec import Meta
from msgspec.structs import replace

from metarule.analysis.baselines import BaselineName
from metarule.analysis.comparison import THRESHOLD
from metarule.config.schema import Checked
from metarule.config.toml import ConfigError, decode, read
from metarule.sweeps.declaration import Sweep, paths_beside, resolve_paths

__all__ = ["Study", "Test", "read_study"]


class Test(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tasks on which learned rules are evaluated, unchanged.

    Attributes:
        name: in tables and figures.
        set: value by dotted field, in quotes, of tasks, circuit, inner_loop or evaluation; output neurons follow the
            tasks.
    """

    name: Annotated[str, Meta(min_length=1)]
    set: Mapping[str, Any] = immutabledict()


class Study(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A sweep, and the comparison of its rules with baselines.

    Attributes:
        kind: kind of table and figure: `tasks`, the gap between new and training tasks against their number;
            `functions`, kinds of Boolean functions by circuit and rule; `transfer`, a matrix of families; `comparison`,
            rules and baselines on each test.
        sweep: sweep that learns the rules.
        tests: tests of the rules; none for held-out tasks of their own.
        baselines: baselines, tuned on the training tasks of the rules.
        retuned: baselines, tuned on training tasks of each test.
        threshold: score of `steps_to_threshold`.
        points: evaluations of a network along its lifetime.
    """

    kind: Literal["tasks", "functions", "transfer", "comparison"]
    sweep: Sweep
    tests: tuple[Test, ...] = ()
    baselines: tuple[BaselineName, ...] = ()
    retuned: tuple[BaselineName, ...] = ()
    threshold: float = THRESHOLD
    points: Annotated[int, Meta(ge=1, le=1000)] = 40


def read_study(file: Path) -> Study:
    """Read a study file.

    Raises:
        ConfigError: naming the file, the field, the value and what is allowed.
    """
    _, tree = read(file)
    try:
        study = decode(tree, Study)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error
    tests = tuple(replace(test, set=paths_beside(file, test.set)) for test in study.tests)
    return replace(study, sweep=resolve_paths(study.sweep, file), tests=tests)
