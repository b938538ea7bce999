"""One model file's facts, and all of them together: immutable, so that any thread may hold them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What a model file's header says."""

    path: str
    """Absolute, symlinks resolved."""
    size_bytes: int
    modified_ns: int
    format: str
    """`safetensors`."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Raw keys and values; thumbnails and other blobs left out."""
    tensors: int = 0
    dtypes: Mapping[str, int] = field(default_factory=dict)
    """Bytes in the file by dtype, torch's names (`bfloat16`)."""
    aliases: tuple[str, ...] = ()
    """Other paths that lead to it (symlinks)."""


@dataclass(frozen=True, slots=True)
class CatalogueState:
    """Everything read so far. `by_path` answers for every known path, resolved or alias."""

    by_path: Mapping[str, FileFacts] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    """Files that were skipped and why, watches that could not be made."""
    pending: int = 0
    """Files seen but not read yet."""
