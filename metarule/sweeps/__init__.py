"""Sweeps over settings and seeds: plan, cells, claims of processes on cells, and the report."""

__all__: list[str] = []
