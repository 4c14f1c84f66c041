"""Config files that ship with the package, found by name."""

from pathlib import Path

from metarule.config.messages import did_you_mean
from metarule.config.toml import ConfigError

__all__ = ["find_config", "shipped"]

_PACKAGE = Path(__file__).parents[1]
# In the package as a wheel installs it, else beside the package, in a checkout.
_FOLDERS = (_PACKAGE / "configs", _PACKAGE.parent / "configs")


def shipped() -> dict[str, Path]:
    """Shipped config files by name, without `.toml`."""
    folder = next((folder for folder in _FOLDERS if folder.is_dir()), _FOLDERS[0])
    return {file.stem: file for file in sorted(folder.glob("*.toml"), key=lambda file: file.stem)}


def find_config(name: str, folder: Path = Path()) -> Path:
    """Find a config file by its path or, if there is none and the path is a bare name, among those that are shipped.

    Args:
        name: path, or name of a shipped config, with or without `.toml`.
        folder: directory that a relative path starts from.

    Returns:
        Path of the file; whether it can be read is not checked.

    Raises:
        ConfigError: a bare name that is neither in the directory nor shipped.
    """
    path, known = folder / name, shipped()
    stem = name.removesuffix(".toml")
    if Path(name).name != name:
        return path
    if stem in known:
        return path if path.is_file() else known[stem]
    try:
        path.lstat()
    except FileNotFoundError as error:
        hint = f"; shipped configs: {', '.join(known)}{did_you_mean(stem, known)}"
        raise ConfigError(f"{path}: {error.strerror}{hint}") from error
    except (OSError, ValueError):
        pass  # whoever reads the file reports it
    return path
