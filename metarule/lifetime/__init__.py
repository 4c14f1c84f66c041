"""One network learning one task: the learner, how its lifetime is unrolled, and how the loop is differentiated."""

__all__: list[str] = []
