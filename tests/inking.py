"""Check of figure files."""

from pathlib import Path

from matplotlib.image import imread


def inked(file: Path) -> bool:
    """True if a picture has dark pixels."""
    return file.exists() and bool((imread(file)[..., :3] < 0.5).any())
