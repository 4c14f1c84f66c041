"""One θ-gradient, computed in many ways on the same lifetimes."""
