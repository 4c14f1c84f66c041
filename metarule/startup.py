"""Import of JAX, before all else: a variable with which JAX cannot start is named in one line."""

import importlib
import sys

__all__: list[str] = []

try:
    importlib.import_module("jax")
except ValueError as error:
    if sys.argv[:1] != ["-m"]:  # its value while Python looks for the module of a command
        raise
    message = f"JAX cannot start: {error}; change this variable of the environment, or unset it"
    print(f"metarule: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)
