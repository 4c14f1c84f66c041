"""Time of a meta-step by number of devices and processes: `python -m benchmarks.scaling [--quick] [--json FILE]`."""

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from msgspec import Meta, Struct

from benchmarks import program
from benchmarks.probes import Setup, timed
from metarule.config.toml import ConfigError
from metarule.meta import Gradient
from metarule.parallel.devices import affinity
from metarule.runs.experiment import read_experiment_file
from metarule.sweeps.rows import write_rows

__all__ = ["Options", "main"]

_USAGE = """\
Time the same meta-step on 1, 2, 4 and 8 devices of one process, and on one device of each of two processes that are
connected over loopback, in turns. Devices are cores of this CPU; more devices than cores take turns, and then only the
messages between them are worth a look. It takes about two minutes on two cores; a second start goes on where the first
was stopped.

In the table, efficiency is the time on one device over that here, by the cores that devices here can have; collectives
and bytes are messages between devices in a meta-step; difference is the relative difference of the norm of the first
theta-gradient from that on one device.

--quick                            few set-ups, in a directory of its own: about a minute
"""
_QUICK: dict[str, Any] = {"directory": "runs/scaling-quick", "devices": [1, 2], "processes": [2], "turns": 3}

_Counts = tuple[Annotated[int, Meta(ge=1, le=4096)], ...]


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Set-ups that are timed.

    Attributes:
        directory: for measurements.
        json: file for the rows of the table; none if empty.
        config: config of the meta-steps, with gradient descent.
        devices: devices of one process, 1 first.
        processes: processes of one device each.
        turns: turns of each set-up.
    """

    directory: Annotated[str, Meta(min_length=1)] = "runs/scaling"
    json: str = ""
    config: str = "configs/boolean.toml"
    devices: Annotated[_Counts, Meta(min_length=1)] = (1, 2, 4, 8)
    processes: _Counts = (2,)
    turns: Annotated[int, Meta(ge=2, le=1000)] = 12


def _serve(options: Options, flags: list[str]) -> int:
    _check(options)
    directory = Path(options.directory)
    program.lay_out(directory, options)
    rows = _compared(program.read_or_measure(directory / "measured.json", partial(_measured, options)))
    print(program.table(rows, difference=".1e", bytes=","))
    write_rows(options.json, rows)
    return 0


def _check(options: Options) -> None:
    """Refuse bad options before anything is measured."""
    experiment, _ = read_experiment_file(Path(options.config), [])
    if not isinstance(experiment.optimizer, Gradient):
        raise ConfigError(f"config = '{options.config}': it has another optimizer; allowed: gradient")
    if options.devices[0] != 1:
        raise ConfigError(f"devices = {list(options.devices)}: expected 1 first, with which the others are compared")


def _measured(options: Options) -> list[dict[str, Any]]:
    setups = {f"{count} device{'s' if count > 1 else ''}": (1, count) for count in options.devices}
    setups |= {f"{count} processes": (count, 1) for count in options.processes if count > 1}
    times = timed([Setup(*counts, (options.config,)) for counts in setups.values()], options.turns)
    return [
        {"setup": name, "minimum_ms": min(one["seconds"]) * 1e3, "median_ms": float(np.median(one["seconds"])) * 1e3}
        | {field: value for field, value in one.items() if field != "seconds"}
        for name, one in zip(setups, times, strict=True)
    ]


def _compared(measured: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Compare set-ups with the first, which is one device."""
    first = measured[0]
    return [
        {name: row[name] for name in ("setup", "devices", "minimum_ms", "median_ms")}
        | {"efficiency": first["minimum_ms"] / row["minimum_ms"] / min(row["devices"], affinity())}
        | {"collectives": row["collectives"], "bytes": row["bytes"]}
        | {"difference": abs(row["gradient_norm"] / first["gradient_norm"] - 1)}
        for row in measured
    ]


main = program.command("benchmarks.scaling", _USAGE, Options, _serve, _QUICK)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
