"""Navigation on a grid to a goal that is found by trying."""

from typing import Annotated, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from msgspec import Meta

from metarule.config.schema import Checked
from metarule.prng import Purpose, run_key, stream
from metarule.tasks.pools import MemberPool, split_members
from metarule.types import Integer, Metrics, PRNGKey, Reaction, Split, Stimulus

__all__ = ["MOVES", "Navigation", "NavigationState", "NavigationTask"]

# (Δx, Δy) of north, east, south and west, in the order of the output neurons.
MOVES = ((0, 1), (1, 0), (0, -1), (-1, 0))

# Trials over which efficiency is averaged, about; narrowest place fields that are not those of single cells.
_RECENT = 5
_NARROWEST = 0.1


class NavigationTask(NamedTuple):
    """One goal, and the start of the first trial.

    Attributes:
        goal: (x, y) of the goal.
        start: (x, y) of the first start.
    """

    goal: Float[Array, "2"]
    start: Float[Array, "2"]


class NavigationState(NamedTuple):
    """State of a grid between steps.

    Attributes:
        position: (x, y) at the beginning of the next step.
        distance: steps of the shortest path from the start of the trial to the goal.
        trial_steps: steps in the trial so far.
        steps: steps in the lifetime so far.
        trials: trials that have ended.
        goals: trials that have ended at the goal.
        efficiency: running average of the path efficiency of trials.
        last: path efficiency of the last trial.
    """

    position: Float[Array, "2"]
    distance: Float[Array, ""]
    trial_steps: Float[Array, ""]
    steps: Float[Array, ""]
    trials: Float[Array, ""]
    goals: Float[Array, ""]
    efficiency: Float[Array, ""]
    last: Float[Array, ""]


class Navigation(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="navigation"):
    """Navigation on a square grid with walls around it, whose task is the cell of the goal.

    The outputs are the moves north, east, south and west; a move into a wall leaves the position as it is. The move to
    the goal has the reward 1 and ends the trial; every other move has the reward 0. A trial also ends after `timeout`
    steps. The next step is at the start of a new trial, any cell but the goal with equal chances. The loss of a step is
    −reward. Inputs are the activities of place cells, one a cell c of the grid, y · size + x in number:

        activity = exp(−|position − c|² / (2 · place_width²)), or 1 at the position and 0 elsewhere for a width of 0

    The path efficiency of a trial is (steps of the shortest path)/(steps taken), and 0 without reaching the goal.

    Attributes:
        size: cells along each side.
        place_width: width of place fields in cells; 0 for single cells.
        timeout: most steps of a trial, at least those of the longest path, 2·(size − 1).
        test_fraction: share of the cells that are goals of test tasks.

    Raises:
        ValueError: place fields that are narrower than a tenth of a cell, or a timeout in which a goal cannot be
            reached from every start.
    """

    size: Annotated[int, Meta(ge=3, le=15)] = 5
    place_width: Annotated[float, Meta(ge=0, le=15)] = 0.0
    timeout: Annotated[int, Meta(ge=1)] = 50
    test_fraction: Annotated[float, Meta(gt=0, lt=1)] = 0.4
    outputs: ClassVar[int] = len(MOVES)
    activation: ClassVar[str] = "choice"
    primary_metric: ClassVar[str] = "efficiency"
    in_episodes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if 0 < self.place_width < _NARROWEST:
            raise ValueError(f"place_width = {self.place_width:g}: allowed: 0, or from {_NARROWEST:g}")
        if self.timeout < (longest := 2 * (self.size - 1)):
            reason = f"the goal is up to {longest} steps away"
            raise ValueError(f"timeout = {self.timeout}: {reason}; allowed: from {longest}")

    @property
    def inputs(self) -> int:
        """Number of cells."""
        return self.size**2

    def split(self, seed: Integer) -> Split:
        """Split the cells at random into goals of training and of test tasks, at least one each."""
        return split_members(stream(run_key(seed), Purpose.SPLIT), self.inputs, self.test_fraction)

    def sample(self, key: PRNGKey, pool: MemberPool, index: Integer) -> NavigationTask:
        """Sample goal number `index` of a pool, modulo its size; the key decides the first start."""
        goal = self._place(self.task_id(pool, index))
        return NavigationTask(goal, self._draw_start(key, goal))

    def task_id(self, pool: MemberPool, index: Integer) -> Integer:
        """Number of the cell of the goal, y · size + x."""
        return pool.member(index)

    def stimulus(self, task: NavigationTask, t: Integer, key: PRNGKey) -> Stimulus:
        """Silent place cells: all of their activity depends on the position."""
        return Stimulus(input=jnp.zeros(self.inputs), target=jnp.zeros(self.outputs))

    def start(self, task: NavigationTask) -> NavigationState:
        """State at the first start."""
        zero = jnp.zeros(())
        distance = jnp.sum(jnp.abs(task.start - task.goal))
        return NavigationState(task.start, distance, zero, zero, zero, zero, zero, zero)

    def sense(self, task: NavigationTask, state: NavigationState, stimulus: Stimulus) -> Stimulus:
        """Activity of the place cells at the position."""
        offset = state.position[:, None] - jnp.arange(self.size, dtype=state.position.dtype)[None]
        if self.place_width:
            by_axis = jnp.exp(-((offset / self.place_width) ** 2) / 2)
        else:
            by_axis = jnp.where(offset == 0, 1.0, 0.0)
        columns, rows = by_axis[0], by_axis[1]
        return stimulus._replace(input=(rows[:, None] * columns[None]).reshape(-1))

    def react(self, task: NavigationTask, state: NavigationState, output: Float[Array, "4"], key: PRNGKey) -> Reaction:
        """Move, and begin a new trial if this one has ended."""
        # Not a matrix product, whose precision is lower on accelerators than on CPUs.
        move = jnp.sum(output[:, None] * np.array(MOVES, output.dtype), axis=0)
        moved = jnp.clip(state.position + move, 0.0, self.size - 1.0)
        is_goal = jnp.all(moved == task.goal)
        trial_steps = state.trial_steps + 1
        is_over = is_goal | (trial_steps >= self.timeout)

        start = self._draw_start(key, task.goal)
        trials = state.trials + jnp.where(is_over, 1.0, 0.0)
        reward = jnp.where(is_goal, 1.0, 0.0)
        path = jnp.where(is_goal, state.distance / trial_steps, 0.0)
        average = state.efficiency + (path - state.efficiency) / jnp.clip(trials, 1.0, _RECENT)
        after = NavigationState(
            position=jnp.where(is_over, start, moved),
            distance=jnp.where(is_over, jnp.sum(jnp.abs(start - task.goal)), state.distance),
            trial_steps=jnp.where(is_over, 0.0, trial_steps),
            steps=state.steps + 1,
            trials=trials,
            goals=state.goals + reward,
            efficiency=jnp.where(is_over, average, state.efficiency),
            last=jnp.where(is_over, path, state.last),
        )
        return Reaction(after, reward)

    def scores(self, task: NavigationTask, state: NavigationState) -> Metrics:
        """Path efficiency of about the last five trials, trials that ended, goals, and goals a step."""
        return {
            "efficiency": state.efficiency,
            "trials": state.trials,
            "goals": state.goals,
            "last": state.last,
            "reward": state.goals / jnp.maximum(state.steps, 1.0),
        }

    def _place(self, cell: Integer) -> Float[Array, "2"]:
        """(x, y) of a cell."""
        return jnp.asarray([cell % self.size, cell // self.size], float)

    def _draw_start(self, key: PRNGKey, goal: Float[Array, "2"]) -> Float[Array, "2"]:
        """Draw one of the cells but the goal."""
        cell = jax.random.randint(key, (), 0, self.inputs - 1)
        is_after = cell.astype(goal.dtype) >= goal[1] * self.size + goal[0]
        return self._place(jnp.where(is_after, cell + 1, cell))
