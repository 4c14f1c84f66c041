"""Sweeps over settings and seeds: declaration, plan, cells, locks on cells, and report."""

__all__: list[str] = []
