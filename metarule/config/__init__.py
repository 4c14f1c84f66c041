"""Configs: TOML files and overrides as typed objects, with errors and help from their schema."""

__all__: list[str] = []
