"""What the commands share: help, and bad input, a device that fails or Ctrl-C answered by one line."""

import signal
import sys
from collections.abc import Callable

from jax.errors import JaxRuntimeError

from metarule.config import ConfigError
from metarule.devices import all_devices
from metarule.programs import keep_programs

__all__ = ["run"]


def run(
    name: str,
    words: list[str],
    usage: Callable[[], str],
    serve: Callable[[], int],
    kept: str,
    bare: bool = False,
    cached: bool = True,
) -> int:
    """Run a command.

    Args:
        name: of the command, which begins each line of error.
        words: of the command line, without the program's name.
        usage: makes the text for `--help`.
        serve: reads the words and does the work; returns the exit status.
        kept: what is there of the work after Ctrl-C.
        bare: whether it may be run without words; else these show its help.
        cached: whether compiled programs are kept for later commands; not where compiling is timed.

    Returns:
        Exit status: that of `serve`, 0 or 2 for help, 1 if the device failed, 2 for bad input, 128 + SIGINT for Ctrl-C.
    """
    if (not words and not bare) or {"--help", "-h"} & set(words):
        print(usage())
        return 0 if words else 2
    try:
        if cached and (complaint := keep_programs()):
            print(f"{name}: {complaint}", file=sys.stderr)
        with all_devices():
            return serve()
    except ConfigError as error:
        print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except JaxRuntimeError as error:
        print(f"{name}: the device failed: {str(error).splitlines()[0]}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{name}: stopped at once; {kept}", file=sys.stderr)
        return 128 + signal.SIGINT
