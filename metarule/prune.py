"""Shell for `python -m metarule.prune`; the command is `metarule.commands.prune`."""

import sys

from metarule.commands.prune import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
