"""All forms of the θ-gradient at one size, checked against each other and timed in turns."""

import math
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.memory import difference
from benchmarks.speeds import limit
from benchmarks.speeds.forms import FORMS, Form, Outcome, Prepared, TooLarge
from benchmarks.speeds.problem import Size, draw
from benchmarks.speeds.timing import Timing, take_turns

__all__ = ["contest"]

# What is off by more, as a share of the largest number, is another gradient.
_TOLERANCE = 1e-3


class _Entrant(NamedTuple):
    form: Form
    prepared: Prepared | None
    seconds: float = math.nan
    apart: float | None = None
    complaint: str = ""


def contest(size: Size, names: Sequence[str], seconds: float, room: int) -> list[dict[str, Any]]:
    """Time forms of the gradient side by side.

    Args:
        size: of the problem.
        names: of forms.
        seconds: that the calls of one form should take.
        room: bytes that a form may take.

    Returns:
        One row a form, in the order of `FORMS`. `difference` is the largest from the first form of the same problem, as
        a share of the largest number. Where it is too large, or a form could not be run, `note` says so, and there are
        no times.
    """
    entrants = dict(_entrants(size, names, room))
    running = {name: one for name, one in entrants.items() if not one.complaint}
    calls = [(one.prepared.call, one.seconds) for one in running.values() if one.prepared]
    timings = dict(zip(running, take_turns(calls, seconds), strict=True))
    return [_row(size, name, one, timings) for name, one in entrants.items()]


def _entrants(size: Size, names: Sequence[str], room: int) -> Iterator[tuple[str, _Entrant]]:
    lifetimes = draw(size)
    expected: dict[str, Outcome] = {}
    for name, form in FORMS.items():
        if name not in names:
            continue
        try:
            prepared = form.prepare(size, lifetimes, room)
            clock = time.perf_counter()
            raw = prepared.call()
            entrant = _Entrant(form, prepared, time.perf_counter() - clock)
            outcome = prepared.outcome(raw)
        except ImportError as error:
            yield name, _Entrant(form, None, complaint=f"not installed: {error.name}")
        except limit.Unavailable:
            yield name, _Entrant(form, None, complaint="not installed: gcc")
        except TooLarge as error:
            yield name, _Entrant(form, None, complaint=f"does not fit: {error}")
        except (RuntimeError, MemoryError, subprocess.CalledProcessError) as error:  # of whatever library it is
            reason = (str(error).splitlines() or [""])[0]
            yield name, _Entrant(form, None, complaint=f"failed: {type(error).__name__}: {reason}")
        else:
            apart = _apart(outcome, expected[form.problem]) if form.problem in expected else None
            expected.setdefault(form.problem, outcome)
            yield name, entrant._replace(apart=apart, complaint=_judged(outcome, apart))


def _apart(found: Outcome, expected: Outcome) -> float:
    if found.gradients is None or expected.gradients is None:
        return difference(found.losses, expected.losses)
    if found.gradients.ndim < expected.gradients.ndim:  # of the sum of losses
        return difference(found.gradients, expected.gradients.sum(0))
    return difference(found.gradients, expected.gradients)


def _judged(found: Outcome, apart: float | None) -> str:
    if not all(np.isfinite(array).all() for array in found if array is not None):
        return "WRONG: not finite"
    return f"WRONG: off by {apart:.1g}" if apart is not None and not apart <= _TOLERANCE else ""


def _row(size: Size, name: str, one: _Entrant, timings: Mapping[str, Timing]) -> dict[str, Any]:
    timing = timings.get(name)
    base = timings.get("C" if math.isfinite(one.form.bound) else "C, without_bound")
    prepared = one.prepared
    return {
        "size": size.name,
        "steps": size.steps,
        "lives": size.lifetimes,
        "form": name,
        "runs": timing.runs if timing else 0,
        "minimum_ms": timing.minimum * 1e3 if timing else None,
        "median_ms": timing.median * 1e3 if timing else None,
        "ratio": timing.minimum / base.minimum if timing and base else None,
        "compile_seconds": prepared.compile_seconds if prepared else None,
        "temporary_bytes": prepared.temporary_bytes if prepared else None,
        "lives_per_second": size.lifetimes / timing.minimum if timing else None,
        "difference": one.apart if one.apart is None or math.isfinite(one.apart) else None,
        "note": one.complaint or (prepared.note if prepared else ""),
    }
