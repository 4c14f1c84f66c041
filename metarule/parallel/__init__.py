"""Parallel computation: devices, batches of lifetimes, several processes, and a cache of compiled programs."""

__all__: list[str] = []
