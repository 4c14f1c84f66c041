"""Shell for `python -m metarule.infer`; the command is `metarule.commands.infer`."""

import sys

from metarule.commands.infer import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
