"""Reports: one HTML page about a run, the runs of several seeds, a structure search, a sweep or a comparison."""

__all__: list[str] = []
