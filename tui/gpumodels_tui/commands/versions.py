"""The version of this program."""

from __future__ import annotations


def version() -> str:
    """As it was installed."""
    import importlib.metadata  # slow to import

    try:
        return importlib.metadata.version("gpumodels")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"
