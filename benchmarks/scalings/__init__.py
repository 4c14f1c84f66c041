"""Meta-steps of a config on more devices and processes, beside a model of what they cost."""
