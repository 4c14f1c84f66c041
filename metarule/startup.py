"""JAX, imported before all else, so that a command says in one line with which variable JAX cannot start."""

import importlib
import sys

__all__: list[str] = []

try:
    importlib.import_module("jax")
except ValueError as error:
    if sys.argv[:1] != ["-m"]:  # what Python has there while it looks for the module of a command
        raise
    says = f"JAX cannot start: {error}; change this variable of the environment, or unset it"
    print(f"metarule: {' '.join(says.split())}", file=sys.stderr)
    sys.exit(2)
