"""A small run, what befalls it, and whether it ends as if nothing had."""
