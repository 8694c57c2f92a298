"""The version of this project: the one place where it is written (pyproject.toml reads it)."""

__version__ = "1.0.0a1"
