"""Reads `model.safetensors.index.json` of transformers and diffusers: the shards of one model. Runs in the worker process."""

from __future__ import annotations

from typing import Final

from gpumodels_tui.headers.config_header import json_object
from gpumodels_tui.headers.headers import FileHeader, UnreadableError

MAX_BYTES: Final = 16 * 1024 * 1024
MAX_SHARDS: Final = 2_000


def recognises(beginning: bytes, size_bytes: int) -> bool:
    """False: JSON files are recognised by name only."""
    return False


def read(path: str, beginning: bytes, size_bytes: int) -> FileHeader:
    """The names of the shards, sorted.

    Raises:
        UnreadableError: the file has no map from tensors to files, or is incomplete.
    """
    weight_map = json_object(path, size_bytes, MAX_BYTES).get("weight_map")
    if not isinstance(weight_map, dict):
        raise UnreadableError("it has no weight_map", unfinished=True)
    names = {name for name in weight_map.values() if isinstance(name, str) and _is_neighbour(name)}
    if len(names) > MAX_SHARDS:
        raise UnreadableError(f"too many shards ({len(names)})")
    return FileHeader("index", tensors=len(weight_map), shards=tuple(sorted(names)))


def _is_neighbour(name: str) -> bool:
    return bool(name) and "/" not in name and "\0" not in name and name not in (".", "..")
