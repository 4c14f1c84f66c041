"""Studies: learned rules and tuned baselines on new tasks."""
