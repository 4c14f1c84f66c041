"""Runs: the experiment, its training loop, and what its directory holds."""

__all__: list[str] = []
