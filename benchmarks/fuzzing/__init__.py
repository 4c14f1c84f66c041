"""Input that is mutated, and what is made of it."""
