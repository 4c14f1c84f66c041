"""A study as it is declared: a sweep that learns rules, tests on which they are tried, and who else is tried there."""

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
from metarule.sweeps.plan import Sweep

__all__ = ["Study", "Test", "read_study", "shortened"]


class Test(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tasks on which learned rules are tried as they are.

    Attributes:
        name: in tables and figures.
        set: value by dotted field of tasks, circuit, inner_loop or evaluation; output neurons follow the tasks.
    """

    name: Annotated[str, Meta(min_length=1, description="in tables and figures")]
    set: Annotated[Mapping[str, Any], Meta(description="value by dotted field, in quotes")] = immutabledict()


class Study(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A sweep, and what its rules are compared with on which tasks.

    Attributes:
        kind: what is made of the scores: `tasks`, the gap between new and training tasks against their number;
            `functions`, kinds of Boolean functions by circuit and rule; `transfer`, a matrix of families; `data`, real
            data sets.
        sweep: what is learned.
        tests: on what the rules are tried; none for held-out tasks of their own.
        baselines: who is tried beside them, at rates that are tuned on the training tasks of the rules.
        retuned: who is tried beside them, at rates that are tuned on training tasks of each test.
        reach: score of which it is said when it is reached.
        points: how often a network is assessed along its lifetime.
    """

    kind: Annotated[Literal["tasks", "functions", "transfer", "data"], Meta(description="what is made of the scores")]
    sweep: Annotated[Sweep, Meta(description="what is learned")]
    tests: Annotated[tuple[Test, ...], Meta(description="on what the rules are tried; none for their own tasks")] = ()
    baselines: Annotated[
        tuple[BaselineName, ...], Meta(description="tried beside them, tuned where the rules were learned")
    ] = ()
    retuned: Annotated[
        tuple[BaselineName, ...], Meta(description="tried beside them, tuned on training tasks of each test")
    ] = ()
    threshold: Annotated[float, Meta(description="score of which it is said when it is reached")] = THRESHOLD
    points: Annotated[int, Meta(ge=1, le=1000, description="how often a network is assessed along its lifetime")] = 40


def read_study(file: Path) -> Study:
    """Read a study file.

    Args:
        file: the file.

    Returns:
        The study.

    Raises:
        ConfigError: naming the file, the field, the value and what is allowed.
    """
    try:
        return decode(read(file)[1], Study)
    except ConfigError as error:
        raise ConfigError(str(error) if str(error).startswith(str(file)) else f"{file}: {error}") from error


def shortened(study: Study) -> Study:
    """A small form of a study, whose sweep is shortened elsewhere: two tests."""
    return replace(study, tests=study.tests[:2])
