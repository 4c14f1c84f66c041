"""Shell for `python -m benchmarks.sweep`; the command is `metarule.commands.sweep`."""

import sys

from metarule.commands.sweep import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
