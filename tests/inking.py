"""Whether a picture was drawn."""

from pathlib import Path

from matplotlib.image import imread


def inked(file: Path) -> bool:
    """Whether some of a picture is not white."""
    return file.exists() and bool((imread(file)[..., :3] < 0.5).any())
