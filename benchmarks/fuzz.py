"""Whether every input works or is refused in one line: `python -m benchmarks.fuzz [--quick] [--json FILE]`."""

import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Annotated, Any

from msgspec import Meta, Struct
from tqdm import tqdm

from benchmarks.fuzzing.judging import ACCEPTED, BROKEN, REFUSED, Outcome, commanded, decoded, stepped
from metarule.commands import cli
from metarule.config.schema import describe
from metarule.config.toml import decode, parse_overrides
from metarule.sweeps.rows import check_place, lines_of, write_rows

__all__ = ["Options", "main"]

_USAGE = """\
usage: python -m benchmarks.fuzz [--quick] [--option VALUE ...]

Mutate configs, command lines and run directories with their θ files, and see whether each works or is refused in one
line that names a field, with nothing written: many through decode, build and the shapes of a meta-step, some that were
accepted through a real meta-step, and some through the command itself. Print what was accepted, refused and broken, and
the smallest input that broke each promise; the exit status is 1 if there is one.

--quick                            a few inputs each: about a minute
--help                             this text

Options [defaults]:
"""
_QUICK = {"inputs": 200, "steps": 4, "commands": 4}
# Inputs that a worker takes at a time, and how many such pieces there are between two lines where there is no terminal.
_CHUNK, _SAID = 50, 20


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many inputs are tried.

    Attributes:
        inputs: through decode, build and the shapes of a meta-step.
        steps: of those accepted, through a real meta-step.
        commands: through the real command, half of them ones that are refused.
        seed: decides all inputs.
        workers: processes that share them.
        json: file for what became of each that broke a promise, and for the counts.
    """

    inputs: Annotated[int, Meta(ge=1, le=10_000_000, description="inputs through decode, build and shapes")] = 10_000
    steps: Annotated[int, Meta(ge=0, le=100_000, description="of those accepted, through a real meta-step")] = 100
    commands: Annotated[int, Meta(ge=0, le=100_000, description="through the real command")] = 100
    seed: Annotated[int, Meta(ge=0, lt=2**31, description="decides all inputs")] = 0
    workers: Annotated[int, Meta(ge=1, le=256, description="processes that share them")] = 2
    json: Annotated[str, Meta(description="file for the counts and what broke; none if empty")] = ""


def main(words: list[str]) -> int:
    """Run the command.

    Args:
        words: of the command line, without the program's name.

    Returns:
        Exit status: 0 done, 1 if a promise was broken, 2 for bad input, 128 + signal if stopped.
    """
    usage = (_USAGE + describe(Options)).rstrip()
    return cli.run("benchmarks.fuzz", words, lambda: usage, _serve, "nothing was written", bare=True)


def _serve(words: list[str]) -> int:
    given = dict(parse_overrides([word for word in words if word != "--quick"]))
    options = decode((_QUICK if "--quick" in words else {}) | given, Options)
    check_place(options.json)
    clock = time.perf_counter()
    with ProcessPoolExecutor(options.workers, multiprocessing.get_context("spawn")) as pool:
        chunks = [range(start, min(start + _CHUNK, options.inputs)) for start in range(0, options.inputs, _CHUNK)]
        shared = partial(_share, pool, options)
        read = [one for some in shared(decoded, chunks, "read") for one in some]
        cheap = [one.number for one in read if one.cheap and one.kind != "run"]
        lived = list(shared(stepped, cheap[: options.steps], "lived"))
        refused = [one.number for one in read if one.verdict == REFUSED]
        runnable = [one.number for one in read if one.cheap][::-1]
        half = options.commands // 2
        ordered = list(shared(commanded, runnable[: options.commands - half] + refused[:half], "ordered"))
    phases = {"decode, build, shapes": read, "one meta-step": lived, "the command": ordered}
    rows = [_row(phase, outcomes) for phase, outcomes in phases.items()]
    print("\n".join(lines_of(rows)))
    broken = {phase: [one for one in found if one.verdict == BROKEN] for phase, found in phases.items()}
    for phase, some in broken.items():
        for one in _one_of_each(some):
            print(f"\n{phase}, input {one.number}: {one.says}\n{one.given}")
    print(f"\nseed {options.seed}, {time.perf_counter() - clock:.0f} s")
    found = [{"stage": phase} | one._asdict() for phase, some in broken.items() for one in some]
    write_rows(options.json, [*rows, *found])
    return 1 if found else 0


def _share(
    pool: ProcessPoolExecutor, options: Options, work: Callable[..., Any], items: Sequence[Any], name: str
) -> Iterator[Any]:
    """What is made of each item, in their order, while a bar, or a line now and then, says how far it is."""
    with tqdm(total=len(items), desc=name, disable=None) as bar:
        for number, one in enumerate(pool.map(partial(work, options.seed), items), 1):
            bar.update()
            if bar.disable and (number % _SAID == 0 or number == len(items)):
                print(f"{name}: {number} of {len(items)}", flush=True)
            yield one


def _row(phase: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    counts = Counter(one.verdict for one in outcomes)
    return {"stage": phase, "inputs": len(outcomes)} | {name: counts[name] for name in (ACCEPTED, REFUSED, BROKEN)}


def _one_of_each(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The smallest input of each way to break the promise."""
    ways: dict[str, Outcome] = {}
    for one in sorted(outcomes, key=lambda one: len(one.given)):
        ways.setdefault(one.says.split(":")[0], one)
    return list(ways.values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
