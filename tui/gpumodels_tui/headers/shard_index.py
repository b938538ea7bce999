"""`model.safetensors.index.json`: which files are one model (the layout of transformers and diffusers). Runs in the worker."""

from __future__ import annotations

from typing import Final

from gpumodels_tui.headers.config_header import json_object
from gpumodels_tui.headers.headers import FileHeader, UnreadableError

MAX_BYTES: Final = 16 * 1024 * 1024
MAX_SHARDS: Final = 2_000


def recognises(beginning: bytes, size_bytes: int) -> bool:
    """Never by its beginning: JSON may be anything."""
    return False


def read(path: str, beginning: bytes, size_bytes: int) -> FileHeader:
    """The names of its shards, in order.

    Raises:
        UnreadableError: it has no map from tensors to files, or isn't all there yet.
    """
    weight_map = json_object(path, size_bytes, MAX_BYTES).get("weight_map")
    if not isinstance(weight_map, dict):
        raise UnreadableError("no weight_map in it", unfinished=True)
    names = {name for name in weight_map.values() if isinstance(name, str) and _is_neighbour(name)}
    if len(names) > MAX_SHARDS:
        raise UnreadableError(f"names {len(names)} shards")
    return FileHeader("index", tensors=len(weight_map), shards=tuple(sorted(names)))


def _is_neighbour(name: str) -> bool:
    return bool(name) and "/" not in name and "\0" not in name and name not in (".", "..")
