"""What a safetensors file says of itself: its `__metadata__`, read with safetensors where the host has it."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from typing import Final

from gpumodels.failures import LOGGER, Failures

WITHOUT_SAFETENSORS: Final = (
    "safetensors is not installed in this process: no file metadata; names are from files, configs and classes"
)
MAX_KEYS: Final = 200
MAX_VALUE_LENGTH: Final = 2000
"""Longer values are tag statistics and thumbnails; the viewer reads the files itself if somebody wants them."""


class FileMetadata:
    """Remembers each file's metadata by path, size and time of change."""

    def __init__(self, failures: Failures) -> None:
        self._failures = failures
        self._known: dict[str, tuple[tuple[int, int], Mapping[str, str]]] = {}
        self.available = _is_installed("safetensors")
        if not self.available:
            LOGGER.warning(WITHOUT_SAFETENSORS)

    def of(self, path: str) -> Mapping[str, str]:
        """Its keys and values; empty for other formats, unreadable files, and without safetensors."""
        if not self.available or not path.endswith((".safetensors", ".sft")):
            return {}
        with self._failures.guard("reading a model file's metadata"):
            status = os.stat(path)
            stamp = (status.st_size, status.st_mtime_ns)
            known = self._known.get(path)
            if known is None or known[0] != stamp:
                known = self._known[path] = (stamp, _read(path))
            return known[1]
        return {}


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):  # an import hook of the host's forbids it; a module without a spec stands in for it
        return False


def _read(path: str) -> Mapping[str, str]:
    from safetensors import safe_open  # the host has it; reading a header needs neither torch nor numpy

    with safe_open(path, framework="numpy") as file:
        stated = file.metadata() or {}
    return {key: value for key, value in list(stated.items())[:MAX_KEYS] if len(value) <= MAX_VALUE_LENGTH}
