"""Shell for `python -m metarule.evolve`; the command is `metarule.commands.evolve`."""

import sys

from metarule.commands.evolve import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
