"""One model file's facts, and all of them together: immutable, so that any thread may hold them."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from gpumodels_shared.schema import Fingerprint


class FileFacts(Struct, frozen=True):
    """What a model file's header says."""

    path: str
    """Absolute, symlinks resolved."""
    size_bytes: int
    modified_ns: int
    format: str
    """`safetensors`, `gguf`, `pickle` (never opened); `config` and `index` for what lies beside them."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Raw keys and values; thumbnails and other blobs left out."""
    tensors: int = 0
    dtypes: Mapping[str, int] = field(default_factory=dict)
    """Bytes in the file by dtype, torch's names (`bfloat16`)."""
    aliases: tuple[str, ...] = ()
    """Other paths that lead to it (symlinks)."""
    shapes: bytes = b""
    """Of its floating tensors, packed (`stored_tensors.packed_shapes`): whether comparing values is worth the while."""
    shards: tuple[str, ...] = ()
    """Of an index: the names of the files beside it that are one model."""
    rank: int | None = None
    """Of a LoRA, by the shapes of its tensors."""


class ValuesMatch(Struct, frozen=True):
    """Which files a model's values are from."""

    files: tuple[str, ...]
    """One, or the shards of one model; those of all parts, where it is made of several; none on a tie."""
    candidates: tuple[str, ...]
    """Between which the values couldn't decide."""
    matched: int
    """Of `compared` sampled tensors; fewer than all where something was merged into the weights."""
    compared: int
    parts: tuple[tuple[str, ...], ...] = ()
    """The files by what the model is made of, where no file has all of it."""


class CatalogueState(Struct, frozen=True):
    """Everything read so far. `by_path` answers for every known path, resolved or alias."""

    by_path: Mapping[str, FileFacts] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    """Files that were skipped and why, watches that could not be made."""
    pending: int = 0
    """Files seen but not read yet."""
    seen: int = 0
    """All files seen, read or not."""
    values: Mapping[Fingerprint, ValuesMatch] = field(default_factory=dict)
    """Where fingerprinted models' values are from, as far as that was found out."""
    unsettled: frozenset[Fingerprint] = frozenset()
    """Those that are still to be compared with some file."""
