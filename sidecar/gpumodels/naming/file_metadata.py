"""Reads the `__metadata__` of safetensors files, with safetensors if the host has it installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Final

from gpumodels.provenance.files_read import Stamp, stamp_of
from gpumodels.support.failures import LOGGER, Failures
from gpumodels.support.never_pickled import never_pickled

WITHOUT_SAFETENSORS: Final = (
    "safetensors is not installed in this process: no file metadata; names are from files, configs and classes"
)
MAX_FILES: Final = 1000
MAX_KEYS: Final = 200
MAX_KEY_LENGTH: Final = 256
MAX_VALUE_LENGTH: Final = 2000
"""Longer values are tag statistics and thumbnails; the viewer reads these from the file if somebody wants them."""
MAX_TOTAL_LENGTH: Final = 32 * 1024
"""Characters of one file's keys and values, since a snapshot holds those of all models."""
PREFERRED_PREFIXES: Final = ("modelspec.", "model_type", "ss_", "sshs_")
"""How those keys begin that are kept first if not all fit."""
MAX_HEADER_BYTES: Final = 12 * 1024 * 1024
"""A larger header isn't read, as that isn't worth the host's time."""


@never_pickled
class FileMetadata:
    """Remembers each file's metadata by path and stamp: a file that was replaced says nothing about what was loaded before."""

    def __init__(self, failures: Failures) -> None:
        self._failures = failures
        self._known: dict[tuple[str, Stamp], Mapping[str, str]] = {}
        self.available = _is_installed("safetensors")
        if not self.available:
            LOGGER.warning(WITHOUT_SAFETENSORS)

    def of(self, path: str, stamp: Stamp | None) -> Mapping[str, str]:
        """The keys and values of the file with this stamp, or of the present file if no stamp is known.

        Empty for other formats, unreadable files, and without safetensors.
        """
        if not self.available or not path.endswith((".safetensors", ".sft")):
            return {}
        with self._failures.guard("reading a model file's metadata"):
            now = stamp_of(path)
            wanted = stamp or now
            if wanted is None:
                return {}
            known = self._known.get((path, wanted))
            if known is None:
                known = _read(path) if wanted == now else {}
                self._known[path, wanted] = known
                while len(self._known) > MAX_FILES:
                    self._known.pop(next(iter(self._known)))
            return known
        return {}


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):  # an import hook of the host's forbids it; a module without a spec stands in for it
        return False


def _read(path: str) -> Mapping[str, str]:
    from safetensors import safe_open  # the host has it; reading a header needs neither torch nor numpy

    with open(path, "rb") as opened:
        if int.from_bytes(opened.read(8), "little") > MAX_HEADER_BYTES:
            return {}
    with safe_open(path, framework="numpy") as file:
        stated = file.metadata() or {}
    short = {key: value for key, value in stated.items() if len(key) <= MAX_KEY_LENGTH and len(value) <= MAX_VALUE_LENGTH}
    remaining = MAX_TOTAL_LENGTH
    kept: set[str] = set()
    for key in sorted(short, key=lambda key: (not key.startswith(PREFERRED_PREFIXES), len(key) + len(short[key])))[:MAX_KEYS]:
        remaining -= len(key) + len(short[key])
        if remaining < 0:
            break
        kept.add(key)
    return {key: value for key, value in short.items() if key in kept}
