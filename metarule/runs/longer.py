"""Runs that go further: more meta-steps, or another run that begins with the θ that was learned."""

from pathlib import Path

from metarule.config.toml import ConfigError, decode, override
from metarule.meta.phases import fixed_length, total_steps
from metarule.runs.directory import extend, read_experiment
from metarule.runs.experiment import Experiment, to_tree
from metarule.runs.files import json_text
from metarule.runs.finished import load
from metarule.runs.theta_files import GIVEN, THETA, THETA_FORMAT, difference, theta_meaning

__all__ = ["continue_run", "given_theta_files", "lengthen"]


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
        allowed = f"allowed: {before}, or another run --from {path}"
        raise ConfigError(f"optimizer.steps = {steps}: this run cannot be longer: {reason}; {allowed}")
    if (after := total_steps(longer.optimizer)) < before:
        raise ConfigError(f"optimizer.steps = {after}: allowed: at least {before}, which this run has")
    extend(path, longer)  # the runs of several seeds follow when they are resumed


def continue_run(path: Path, experiment: Experiment, is_longer: bool) -> bool:
    """Check that a directory holds the run of one of several seeds, and make it longer if the others are.

    Args:
        path: directory of the run.
        experiment: of this seed.
        is_longer: whether more meta-steps may be added.

    Returns:
        False if it holds another run.
    """
    earlier = read_experiment(path)
    if earlier == experiment:
        return True
    more = [("optimizer.steps", to_tree(experiment)["optimizer"].get("steps"))]
    if not is_longer or decode(override(to_tree(earlier), more), Experiment) != experiment:
        return False
    extend(path, experiment)
    return True


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
