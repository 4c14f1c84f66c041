"""Commands: `metarule COMMAND …`, or `python -m metarule COMMAND …`."""

import sys
from importlib import import_module
from importlib.metadata import version

from metarule.config.messages import did_you_mean, first_line, mute_output

__all__ = ["COMMANDS", "main"]

# Each is a module of `metarule.commands`, which is imported when the command runs.
COMMANDS = {
    "train": "Learn a rule as a config says, and compare it on held-out tasks with tuned baselines.",
    "evaluate": "Evaluate a learned rule on new tasks.",
    "infer": "Infer a rule from recordings of animals.",
    "adapt": "Continue to learn a learned rule on new tasks.",
    "prune": "Find a shorter rule with the same score.",
    "explain": "Explain a learned rule in words, numbers and figures.",
    "evolve": "Search for the set of terms of a rule.",
    "sweep": "Run a config over settings and seeds.",
    "compare": "Compare learned rules of several runs.",
    "report": "Write one HTML page about a run, a sweep or several runs.",
    "simulate": "Simulate recordings of animals that learn by a known rule.",
    "ls": "List runs.",
}
_END = """
metarule COMMAND --help lists the options of a command.
metarule --version prints the version.
metarule --completion SHELL prints a script for bash, zsh or fish: source <(metarule --completion bash)"""


def main() -> int:
    """Run the command that the command line names.

    Returns:
        Exit status of the command; 0 for `--help`, `--version` and `--completion`, 1 if the output cannot be
        written, 2 if no command is named.
    """
    words = sys.argv[1:]
    if words and words[0] in COMMANDS:
        return int(import_module(f"metarule.commands.{words[0]}").main(words[1:]))
    try:
        status = _own(words)
        print(end="", flush=True)
    except OSError as error:
        mute_output()
        print(f"metarule: {first_line(error)}", file=sys.stderr)
        return 1
    return status


def _own(words: list[str]) -> int:
    """Do what the command line asks of `metarule` itself."""
    if words[:1] == ["--version"]:
        print(f"metarule {version('metarule')}")
        return 0
    if words[:1] == ["--completion"]:
        return _complete(words[1:])
    if words and not {"--help", "-h"} & set(words):
        hint = did_you_mean(words[0], COMMANDS)
        print(f"metarule: '{words[0]}' is no command; allowed: {', '.join(COMMANDS)}{hint}", file=sys.stderr)
        return 2
    lines = [f"  {name:<10} {summary}" for name, summary in COMMANDS.items()]
    print("\n".join(["usage: metarule COMMAND ...", "", *lines, _END]))
    return 0 if words else 2


def _complete(words: list[str]) -> int:
    from metarule.commands.completion import SHELLS, completion  # imports all commands, which takes seconds

    if len(words) != 1 or words[0] not in SHELLS:
        print(f"metarule: --completion {' '.join(words)}: allowed: {', '.join(SHELLS)}", file=sys.stderr)
        return 2
    print(completion(words[0], COMMANDS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
