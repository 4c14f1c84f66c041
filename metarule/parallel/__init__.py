"""Where computation runs: devices, batches of lifetimes, several processes, and compiled programs that are kept."""

__all__: list[str] = []
