"""Run a command: `metarule COMMAND …`, or `python -m metarule COMMAND …`."""

import sys
from importlib import import_module
from importlib.metadata import version

__all__ = ["COMMANDS", "main"]

# Each is a module of `metarule.commands`, imported only when it is asked for.
COMMANDS = {
    "train": "Learn a rule as a config says, and compare it on held-out tasks with tuned baselines.",
    "evaluate": "Try a learned rule on new tasks.",
    "adapt": "Let a learned rule go on learning on new tasks.",
    "prune": "Find a shorter rule that scores the same.",
    "evolve": "Search for the set of terms of a rule.",
    "sweep": "Run a config over settings and seeds.",
}


def main() -> int:
    """Run the command that the command line names.

    Returns:
        Exit status of the command; 0 for `--help` and `--version`, 2 where no command is named.
    """
    words = sys.argv[1:]
    if words[:1] == ["--version"]:
        print(f"metarule {version('metarule')}")
        return 0
    if words and words[0] in COMMANDS:
        return int(import_module(f"metarule.commands.{words[0]}").main(words[1:]))
    if words and not {"--help", "-h"} & set(words):
        print(f"metarule: '{words[0]}' is no command; allowed: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    lines = [f"  {name:<10} {says}" for name, says in COMMANDS.items()]
    print("\n".join(["usage: metarule COMMAND ...", "", *lines, "", "metarule COMMAND --help tells its options."]))
    return 0 if words else 2


if __name__ == "__main__":
    sys.exit(main())
