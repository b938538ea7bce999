"""Which files are model files: one table of suffixes, each with the module that reads its header."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Final

READERS: Final[Mapping[str, str]] = {".safetensors": "gpumodels_tui.catalogue.safetensors_header"}
"""Modules with `recognises(beginning, size_bytes)` and `read(path, beginning, size_bytes)`; loaded in the worker alone."""


def suffix_of(path: str) -> str | None:
    """The suffix under which this name would be read; None where it isn't a model file's name."""
    suffix = PurePath(path).suffix.lower()
    return suffix if suffix in READERS else None
