"""Shell for `python -m metarule.adapt`; the command is `metarule.commands.adapt`."""

import sys

from metarule.commands.adapt import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
