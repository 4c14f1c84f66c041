"""Genetic search over the set of terms of a polynomial rule."""

__all__: list[str] = []
