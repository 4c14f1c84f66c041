"""What more devices and processes are worth: `python -m benchmarks.scaling [--quick] [--json FILE]`."""

import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from msgspec import Meta, Struct

from benchmarks.rows import check_place, lines_of, write_rows
from benchmarks.scalings.drawing import draw_scaling
from benchmarks.scalings.model import H100, Prices, fitted, seconds, telling
from benchmarks.scalings.setups import Setup, Timed, timed
from benchmarks.tables import kept, lay_out
from metarule import cli
from metarule.config import ConfigError, decode, parse_overrides
from metarule.experiment import read_experiment_file
from metarule.meta import Gradient
from metarule.schema import describe

__all__ = ["Options", "main"]

_USAGE = """\
usage: python -m benchmarks.scaling [--quick] [--option VALUE ...]

Time the same meta-step on 1, 2, 4 and 8 devices of one process, and on one device of each of two processes that speak
over loopback, in turns. Devices are cores of this CPU; where there are more devices than cores they take turns, and
what can be learned is how much they say to each other, and that they agree. Then time meta-steps of other sizes on one
device, fit the prices of a model to some of them (benchmarks/scalings/model.py), check it on the others and on more
devices, and say what it predicts for accelerators. All of it takes about ten minutes on two cores; started again it
goes on where it was stopped.

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
    "lives": [16],
    "turns": 3,
}
_FIGURE = "scaling.png"
_PREDICTED = (1, 8)

_Count = Annotated[int, Meta(ge=1, le=4096)]


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is measured.

    Attributes:
        directory: where what is done, and the figure, are kept.
        json: file for the rows of all tables.
        config: whose meta-steps are taken; of gradient descent.
        devices: of one process.
        processes: with one device each.
        hidden: numbers of hidden neurons for which the model is fitted; it is checked on those in between.
        lives: as well, other than those of the config.
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
    lives: Annotated[tuple[_Count, ...], Meta(min_length=1, description="lives a meta-step, for the model")] = (16, 256)
    turns: Annotated[int, Meta(ge=2, le=1000, description="turns of each set-up")] = 12
    predicted: Annotated[
        tuple[Annotated[int, Meta(ge=1)], ...], Meta(min_length=1, description="lives a meta-step on accelerators")
    ] = (64, 1024, 16_384, 262_144)


def main(words: list[str]) -> int:
    """Run the command.

    Args:
        words: of the command line, without the program's name.

    Returns:
        Exit status: 0 done, 2 for bad input, 128 + SIGINT if stopped.
    """
    usage = (_USAGE + describe(Options)).rstrip()
    return cli.run(
        "benchmarks.scaling", words, lambda: usage, _serve, "tables that are done are kept", bare=True, cached=False
    )


def _serve(words: list[str]) -> int:
    given = dict(parse_overrides([word for word in words if word != _QUICK]))
    options = decode((_HASTE if _QUICK in words else {}) | given, Options)
    _check(options)
    directory = Path(options.directory)
    lay_out(directory, options)
    setups = kept(directory / "setups.json", partial(_setups, options))
    _show(setups)
    sizes = kept(directory / "sizes.json", partial(_sizes, options))
    prices, checks = _checks(sizes, setups)
    print("\n".join(_priced(prices)), flush=True)
    _show(checks)
    predictions = _predictions(options, setups)
    print("PREDICTIONS, not measurements: the model with the data sheet of the accelerator")
    _show(predictions)
    draw_scaling(directory / _FIGURE, setups, checks, predictions)
    print(f"figure: {directory / _FIGURE}")
    tables = {"setups": setups, "sizes": sizes, "model": checks, "predictions": predictions}
    write_rows(options.json, [{"table": table} | row for table, rows in tables.items() for row in map(_flat, rows)])
    return 0


def _check(options: Options) -> None:
    """Refuse what would fail after others were measured."""
    check_place(options.json)
    experiment, _ = read_experiment_file(Path(options.config), [])
    if not isinstance(experiment.optimizer, Gradient):
        raise ConfigError(f"config = '{options.config}': it has another optimizer; allowed: gradient")
    if options.devices[0] != 1:
        raise ConfigError(f"devices = {list(options.devices)}: expected 1 first, with which the others are compared")


def _setups(options: Options) -> list[dict[str, Any]]:
    """The meta-step of the config in every set-up."""
    words = (options.config,)
    setups = [Setup(1, count, words) for count in options.devices]
    setups += [Setup(count, 1, words) for count in options.processes if count > 1]
    found = timed(setups, options.turns)
    alone = found[0]
    return [
        {"setup": _name(setup), "devices": setup.processes * setup.devices}
        | _times(one)
        | {
            "efficiency": min(alone.seconds) / min(one.seconds) / min(setup.processes * setup.devices, _cores()),
            "collectives": one.said["collectives"],
            "bytes": one.said["bytes"],
            "apart": abs(one.said["gradient_norm"] / alone.said["gradient_norm"] - 1),
            "said": dict(one.said),
        }
        for setup, one in zip(setups, found, strict=True)
    ]


def _sizes(options: Options) -> list[dict[str, Any]]:
    """Meta-steps of other sizes on one device."""
    given = [{"hidden": count} for count in options.hidden] + [{"lives": count} for count in options.lives]
    fields = {"hidden": "--circuit.hidden", "lives": "--optimizer.tasks"}
    texts = [[(fields[name], f"[{n}]" if name == "hidden" else str(n)) for name, n in one.items()] for one in given]
    setups = [Setup(1, 1, (options.config, *(word for pair in text for word in pair))) for text in texts]
    found = timed(setups, options.turns)
    return [
        {"size": ", ".join(f"{name} {n}" for name, n in one.items())} | _times(seen) | {"said": dict(seen.said)}
        for one, seen in zip(given, found, strict=True)
    ]


def _checks(
    sizes: Sequence[Mapping[str, Any]], setups: Sequence[Mapping[str, Any]]
) -> tuple[Prices, list[dict[str, Any]]]:
    """Prices, fitted to every other size, and the model beside all that was measured."""
    ordered = sorted(sizes, key=lambda row: row["minimum_ms"])
    chosen = ordered[::2] if len(ordered) > 4 else ordered
    prices = fitted([(row["said"], row["minimum_ms"] / 1e3) for row in chosen])
    rows = [_compared(row["size"], row, prices, 1, "fitted" if row in chosen else "checked") for row in ordered]
    for row in setups:
        if row["devices"] <= _cores():  # others take turns, of which the model knows nothing
            rows.append(_compared(row["setup"], row, telling(prices, row["said"]), row["devices"], "checked"))
    return prices, rows


def _compared(name: str, row: Mapping[str, Any], prices: Prices, devices: int, case: str) -> dict[str, Any]:
    by_model = seconds(prices, row["said"], devices) * 1e3
    measured = row["minimum_ms"]
    return {"what": name, "case": case, "measured_ms": measured, "model_ms": by_model, "ratio": by_model / measured}


def _predictions(options: Options, setups: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    said = next((row["said"] for row in setups if row["bytes"]), setups[0]["said"])
    rows = []
    for lives in options.predicted:
        alone = seconds(H100, said, 1, lives)
        for devices in _PREDICTED:
            taken = seconds(H100, said, devices, lives)
            row = {"device": "H100", "devices": devices, "lives": lives, "predicted_ms": taken * 1e3}
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


def _times(one: Timed) -> dict[str, float]:
    return {"minimum_ms": min(one.seconds) * 1e3, "median_ms": float(np.median(one.seconds)) * 1e3}


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "said"}


def _show(rows: Sequence[Mapping[str, Any]]) -> None:
    forms = {"apart": ".1e", "bytes": ",", "lives": ","}
    shown = [
        {name: format(value, forms[name]) if name in forms else value for name, value in _flat(row).items()}
        for row in rows
    ]
    print("\n".join(lines_of(shown)) + "\n", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
