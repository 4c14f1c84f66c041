"""Shell for `python -m metarule.train`; the command is `metarule.commands.train`."""

import sys

from metarule.commands.train import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
