"""What a rule is worth: evaluation, comparison with baselines, ablation, pruning, adaptation and structure search."""

__all__: list[str] = []
