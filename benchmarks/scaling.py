"""What more devices and processes are worth: `python -m benchmarks.scaling [--quick] [--json FILE]`."""

import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from msgspec import Meta, Struct

from benchmarks.scalings.drawing import draw_scaling
from benchmarks.scalings.model import H100, Prices, fitted, seconds, telling
from benchmarks.scalings.setups import Setup, timed
from benchmarks.tables import kept, lay_out
from metarule.commands import cli
from metarule.config.schema import describe
from metarule.config.toml import ConfigError, decode, parse_overrides
from metarule.meta import Gradient
from metarule.runs import figures
from metarule.runs.experiment import read_experiment_file
from metarule.sweeps.rows import check_place, lines_of, write_rows

__all__ = ["Options", "main"]

_USAGE = """\
usage: python -m benchmarks.scaling [--quick] [--option VALUE ...]

Time the same meta-step on 1, 2, 4 and 8 devices of one process, and on one device of each of two processes that speak
over loopback, in turns. Devices are cores of this CPU; where there are more devices than cores they take turns, and
what can be learned is how much they say to each other. In the same turns time meta-steps of other sizes on one device,
fit the prices of a model to some of them (benchmarks/scalings/model.py), check it on the others and on more devices,
and say what it predicts for accelerators. All of it takes about four minutes on two cores; started again it goes on
where it was stopped.

--quick                            few set-ups and sizes, in a directory of its own: about two minutes
--help                             this text

Columns: efficiency is the time on one device over that here, by the cores that devices here can have; collectives and
bytes are messages between devices in a meta-step; apart is how far the norm of the first theta-gradient is from that on
one device.

Options [defaults]:
"""
_QUICK = "--quick"
_HASTE: dict[str, Any] = {
    "directory": "runs/scaling-quick",
    "devices": [1, 2],
    "processes": [2],
    "hidden": [8, 32],
    "lives": [16, 128],
    "turns": 3,
}
_FIGURE = "scaling.png"
_PREDICTED = (1, 8)
# The model is fitted to all sizes but one of so many.
_EVERY = 3

_Count = Annotated[int, Meta(ge=1, le=4096)]


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is measured.

    Attributes:
        directory: where what is done, and the figure, are kept.
        json: file for the rows of all tables.
        config: whose meta-steps are taken; of gradient descent.
        devices: of one process.
        processes: with one device each.
        hidden: numbers of hidden neurons, for the model, which is fitted to some of these sizes and checked on others.
        lives: of a meta-step, as well.
        turns: of each set-up.
        predicted: lives of a meta-step for which accelerators are predicted.
    """

    directory: Annotated[str, Meta(min_length=1, description="where what is done, and the figure, are kept")] = (
        "runs/scaling"
    )
    json: Annotated[str, Meta(description="file for the rows of all tables; none if empty")] = ""
    config: Annotated[str, Meta(description="whose meta-steps are taken")] = "configs/boolean.toml"
    devices: Annotated[tuple[_Count, ...], Meta(min_length=1, description="devices of one process, from 1")] = (
        1,
        2,
        4,
        8,
    )
    processes: Annotated[tuple[_Count, ...], Meta(description="processes of one device each")] = (2,)
    hidden: Annotated[tuple[_Count, ...], Meta(min_length=1, description="hidden neurons, for the model")] = (
        8,
        32,
        128,
    )
    lifetimes: Annotated[tuple[_Count, ...], Meta(min_length=1, description="lives a meta-step, for the model")] = (
        16,
        128,
        512,
    )
    turns: Annotated[int, Meta(ge=2, le=1000, description="turns of each set-up")] = 12
    predicted: Annotated[
        tuple[Annotated[int, Meta(ge=1)], ...], Meta(min_length=1, description="lives a meta-step on accelerators")
    ] = (64, 1024, 16_384, 262_144)


def main(words: list[str]) -> int:
    """Run the command.

    Args:
        words: of the command line, without the program's name.

    Returns:
        Exit status: 0 done, 1 if a figure could not be drawn, 2 for bad input, 128 + signal if stopped.
    """
    usage = (_USAGE + describe(Options)).rstrip()
    return cli.run(
        "benchmarks.scaling", words, lambda: usage, _serve, "tables that are done are kept", bare=True, cached=False
    )


@figures.drawn_last()
def _serve(words: list[str]) -> int:
    given = dict(parse_overrides([word for word in words if word != _QUICK]))
    options = decode((_HASTE if _QUICK in words else {}) | given, Options)
    _check(options)
    directory = Path(options.directory)
    lay_out(directory, options)
    measured = kept(directory / "measured.json", partial(_measured, options))
    setups = _compared([row for row in measured if not row["size"]])
    _show(setups)
    prices, checks = _checks(measured)
    print("\n".join(_priced(prices)), flush=True)
    _show(checks)
    predictions = _predictions(options, [row["said"] for row in measured])
    print("PREDICTIONS, not measurements: the model with a data sheet, and with guesses of what starting takes")
    _show(predictions)
    draw_scaling(directory / _FIGURE, setups, checks, predictions)
    print(f"figure: {directory / _FIGURE}")
    tables = {"setups": setups, "model": checks, "predictions": predictions}
    write_rows(options.json, [{"table": table} | row for table, rows in tables.items() for row in rows])
    return 0


def _check(options: Options) -> None:
    """Refuse what would fail after others were measured."""
    check_place(options.json)
    experiment, _ = read_experiment_file(Path(options.config), [])
    if not isinstance(experiment.optimizer, Gradient):
        raise ConfigError(f"config = '{options.config}': it has another optimizer; allowed: gradient")
    if options.devices[0] != 1:
        raise ConfigError(f"devices = {list(options.devices)}: expected 1 first, with which the others are compared")


def _measured(options: Options) -> list[dict[str, Any]]:
    """The meta-step of the config in every set-up, and meta-steps of other sizes on one device, all in turns."""
    words = (options.config,)
    setups = [Setup(1, count, words) for count in options.devices]
    setups += [Setup(count, 1, words) for count in options.processes if count > 1]
    sizes = [(f"hidden {count}", ("--circuit.hidden", f"[{count}]")) for count in options.hidden]
    sizes += [(f"lives {count}", ("--optimizer.batch_size", str(count))) for count in options.lifetimes]
    names = [*map(_name, setups), *(name for name, _ in sizes)]
    found = timed([*setups, *(Setup(1, 1, words + own) for _, own in sizes)], options.turns)
    return [
        {"what": name, "devices": one.said["devices"], "size": number >= len(setups)}
        | {"minimum_ms": min(one.seconds) * 1e3, "median_ms": float(np.median(one.seconds)) * 1e3}
        | {"said": dict(one.said)}
        for number, (name, one) in enumerate(zip(names, found, strict=True))
    ]


def _compared(setups: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Set-ups beside the first, which is one device."""
    alone = setups[0]
    return [
        {name: row[name] for name in ("what", "devices", "minimum_ms", "median_ms")}
        | {"efficiency": alone["minimum_ms"] / row["minimum_ms"] / min(row["devices"], _cores())}
        | {"collectives": row["said"]["collectives"], "bytes": row["said"]["bytes"]}
        | {"apart": abs(row["said"]["gradient_norm"] / alone["said"]["gradient_norm"] - 1)}
        for row in setups
    ]


def _checks(measured: Sequence[Mapping[str, Any]]) -> tuple[Prices, list[dict[str, Any]]]:
    """Prices, fitted to two of three sizes, and the model beside all that was measured on as many cores as devices."""
    ordered = sorted((row for row in measured if row["size"]), key=lambda row: row["minimum_ms"])
    chosen = [row for number, row in enumerate(ordered) if number % _EVERY != 1]
    prices = fitted([(row["said"], row["minimum_ms"] / 1e3) for row in chosen])
    others = [row for row in measured if row not in chosen and row["devices"] <= _cores()]
    rows = []
    for case, some in (("fitted", chosen), ("checked", others)):
        for row in some:
            model = seconds(telling(prices, row["said"]), row["said"], row["devices"]) * 1e3
            times = {"measured_ms": row["minimum_ms"], "model_ms": model, "ratio": model / row["minimum_ms"]}
            rows.append({"what": row["what"], "case": case} | times)
    return prices, rows


def _predictions(options: Options, said_of_all: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    said = next((said for said in said_of_all if said["bytes"]), said_of_all[0])
    rows = []
    for lifetimes in options.predicted:
        alone = seconds(H100, said, 1, lifetimes)
        for devices in _PREDICTED:
            taken = seconds(H100, said, devices, lifetimes)
            row = {"device": "H100", "devices": devices, "lives": lifetimes, "predicted_ms": taken * 1e3}
            rows.append(row | {"efficiency": alone / taken / devices})
    return rows


def _priced(prices: Prices) -> list[str]:
    return [
        f"a CPU device here: {prices.start * 1e6:.2f} µs to start an operation, "
        f"{_rate(prices.compute)} GFLOP/s, {_rate(prices.move)} GB/s (- where the fit sees no price)"
    ]


def _rate(price: float) -> str:
    return f"{1e-9 / price:.1f}" if price else "-"


def _name(setup: Setup) -> str:
    if setup.processes > 1:
        return f"{setup.processes} processes"
    return f"{setup.devices} device{'s' if setup.devices > 1 else ''}"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _show(rows: Sequence[Mapping[str, Any]]) -> None:
    forms = {"apart": ".1e", "bytes": ",", "lives": ","}
    shown = [
        {name: format(value, forms[name]) if name in forms else value for name, value in row.items()} for row in rows
    ]
    print("\n".join(lines_of(shown)) + "\n", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
