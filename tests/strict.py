"""Strictness of the processes that run tests, set before the library is imported."""

from pathlib import Path

import jaxtyping

# What writes kernels calls small functions for each number of a network, whose checks would take most of the time.
PARTS = [path.stem for path in (Path(__file__).parent.parent / "metarule").iterdir() if path.stem != "kernels"]
jaxtyping.install_import_hook([f"metarule.{part}" for part in PARTS], "beartype.beartype")

import jax

from metarule.kernels.threefry import install

# Few programs of a worker are useful to another process, and storing one takes a twentieth of a second.
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
# Draws compile ten times as fast.
install()
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_matmul_precision", "highest")
