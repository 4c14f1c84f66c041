"""Shell for `python -m metarule.evaluate`; the command is `metarule.commands.evaluate`."""

import sys

from metarule.commands.evaluate import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
