"""A process that takes meta-steps when it is told to, alone or with others, and says how long they took.

It prints a line that describes its meta-step, and then one for each number of meta-steps that it reads.
"""

import json
import math
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metarule.commands import cli
from metarule.config.toml import ConfigError, parse_overrides
from metarule.meta import Gradient
from metarule.meta.loop import advance, begin
from metarule.parallel.batching import default_chunk_size
from metarule.parallel.devices import LIFETIMES, sharded_jit
from metarule.prng import run_key
from metarule.runs.experiment import Experiment, read_experiment_file
from metarule.types import LearnerState, LifetimeContext

__all__ = ["CAPACITY", "collectives", "serve", "step_number"]

# Meta-steps of one call, at most.
CAPACITY = 1000
# Numbers that are gathered to time it, few and many, and how often.
_FEW, _MANY, _TIMES = 2**8, 2**20, 100
_SHAPE = re.compile(r"(pred|[a-z]+)(\d*)\[([\d,]*)\]")
_COLLECTIVE = re.compile(
    r"= (\(?[^=]*?) (?:all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\("
)
# Operations that cost nothing.
_FREE = re.compile(r"(?:parameter|constant|tuple|get-tuple-element|bitcast)\(")


def serve() -> int:
    """Run the process with the words that it was started with: CONFIG, fields of it, and those of `devices`.

    Returns:
        Exit status.
    """
    return cli.run("benchmarks.scaling", sys.argv[1:], str, _serve, "nothing was written", joint=True)


def _serve(words: list[str]) -> int:
    experiment, _ = read_experiment_file(Path(words[0]), parse_overrides(words[1:]))
    lifetime, optimizer = experiment.lifetime, experiment.optimizer
    if not isinstance(optimizer, Gradient):
        raise ConfigError(f"{words[0]}: optimizer = {type(optimizer).__name__}; allowed: gradient")
    pool, key = experiment.split.train, run_key(experiment.seed)
    state = begin(lifetime, optimizer, pool, key)
    program = advance.lower(lifetime, optimizer, pool, state, key, jnp.asarray(1), CAPACITY).compile()

    def move(count: int) -> Any:
        nonlocal state
        state, seen = jax.block_until_ready(program(pool, state, key, jnp.asarray(count)))
        return seen

    norm = float(move(1).observed["gradient_norm"][0])
    messages = collectives(program.as_text() or "")
    devices = {"devices": jax.device_count(), "collectives": len(messages), "bytes": sum(messages)}
    gathers = {"gathered": [_FEW * 4, _MANY * 4], "gather_seconds": [_gathering(count) for count in (_FEW, _MANY)]}
    _say(step_number(experiment) | devices | gathers | {"gradient_norm": norm})
    for line in sys.stdin:
        clock = time.perf_counter()
        move(int(line))
        _say((time.perf_counter() - clock) / int(line))
    return 0


def collectives(program: str) -> list[int]:
    """Bytes of each message between devices in a compiled program, each text once whatever loop it stands in."""
    return [
        sum(
            (int(bits or 8) // 8) * math.prod(int(size) for size in sizes.split(",") if size)
            for _, bits, sizes in _SHAPE.findall(shapes)
        )
        for shapes in _COLLECTIVE.findall(program)
    ]


def step_number(experiment: Experiment) -> dict[str, Any]:
    """What one step of one lifetime costs with its derivative, as the compiler counts it.

    Args:
        experiment: whose.

    Returns:
        `kernels`, operations that are started one after the other; `flops` and `traffic` [bytes]; and what multiplies
        them: `steps`, `lives`, and how many of these are lived `chunk_size` on one device.
    """
    lifetime = experiment.lifetime
    key, pool = run_key(0), lifetime.tasks.split(0).train
    theta = lifetime.theta(key)
    context, learner_state = lifetime.init(key, lifetime.tasks.sample(key, pool, 0))

    def slopes(theta: Any, context: LifetimeContext, learner_state: LearnerState, after: Any) -> Any:
        step = lambda theta, learner_state: lifetime.step(theta, context, learner_state, 0)[0].weights  # noqa: E731
        weights, slope = jax.vjp(step, theta, learner_state)
        return weights, slope(after)

    program = jax.jit(slopes).lower(theta, context, learner_state, learner_state.weights).compile()
    costs = program.cost_analysis() or {}
    main = (program.as_text() or "").partition("ENTRY ")[2]
    lines = [line for line in main.splitlines() if " = " in line and not _FREE.search(line)]
    optimizer = experiment.optimizer
    assert isinstance(optimizer, Gradient)
    return {
        "kernels": len(lines),
        "flops": float(costs.get("flops", math.nan)),
        "traffic": float(costs.get("bytes accessed", math.nan)),
        "steps": lifetime.steps,
        "lives": optimizer.batch_size,
        "chunk_size": min(default_chunk_size(learner_state), optimizer.batch_size),
    }


def _gathering(count: int) -> float:
    """Seconds in which devices tell each other so many numbers, of which each has a share."""
    devices = jax.device_count()
    if devices == 1:
        return 0.0

    @sharded_jit()
    def gather(numbers: Any) -> Any:
        share = count // devices
        tell = lambda _, numbers: jax.lax.all_gather(numbers[:share] + 1, LIFETIMES, tiled=True)  # noqa: E731
        return jax.lax.fori_loop(0, _TIMES, tell, numbers)

    numbers = np.zeros(count // devices * devices, np.float32)
    run: Callable[[], Any] = lambda: jax.block_until_ready(gather(numbers))  # noqa: E731
    run()
    clock = time.perf_counter()
    run()
    return (time.perf_counter() - clock) / _TIMES


def _say(value: Any) -> None:
    print(json.dumps(value), flush=True)
