"""Evaluation, comparison with baselines, ablation, pruning, adaptation and structure search."""

__all__: list[str] = []
