"""Studies: what learned rules are worth on new tasks, beside tuned baselines."""
