"""Runs that go further: more meta-steps, or another run that begins with the θ that was learned."""

from pathlib import Path

from metarule.config.toml import ConfigError, decode, override
from metarule.meta.phases import fixed_length, total_steps
from metarule.runs.directory import extend, is_run, read_experiment, seed_directory
from metarule.runs.experiment import Experiment, to_tree
from metarule.runs.files import json_text
from metarule.runs.finished import load
from metarule.runs.theta_files import GIVEN, THETA, THETA_FORMAT, difference, theta_meaning

__all__ = ["given_theta_files", "lengthen"]


def lengthen(path: Path, steps: object) -> None:
    """Give a run, or those of several seeds, more meta-steps. The first of them are those that it has taken.

    Args:
        path: directory of the run.
        steps: number of its meta-steps.

    Raises:
        ConfigError: a number that is not larger, or an optimiser whose meta-steps depend on their number.
    """
    experiment = read_experiment(path)
    before = total_steps(experiment.optimizer)
    longer = decode(override(to_tree(experiment), [("optimizer.steps", steps)]), Experiment)
    if longer == experiment:
        return
    if reason := fixed_length(experiment.optimizer):
        raise ConfigError(f"optimizer.steps = {steps}: this run cannot be longer: {reason}; allowed: {before}")
    if (after := total_steps(longer.optimizer)) < before:
        raise ConfigError(f"optimizer.steps = {after}: allowed: at least {before}, which this run has")
    for seed in range(experiment.seed, experiment.seed + experiment.seeds) if experiment.seeds > 1 else ():
        if is_run(directory := seed_directory(path, seed)):
            extend(directory, longer.of_seed(seed))
    extend(path, longer)


def given_theta_files(run: str, experiment: Experiment) -> dict[str, bytes]:
    """Files of the θ of a finished run, with which another one begins.

    Args:
        run: directory of the run.
        experiment: of the run that begins.

    Returns:
        Content by name.

    Raises:
        ConfigError: no finished run, or one of another rule.
    """
    meaning = theta_meaning(experiment.lifetime)
    finished = load(run)
    if found := difference(theta_meaning(finished.learner), meaning):
        raise ConfigError(f"--from '{run}': its θ is of another rule: {found}")
    theta = (finished.directory / THETA).read_bytes()
    described = {"format": THETA_FORMAT} | meaning | {"from": str(finished.directory.absolute())}
    return {f"{GIVEN}.npz": theta, f"{GIVEN}.json": json_text(described, indent=2).encode()}
