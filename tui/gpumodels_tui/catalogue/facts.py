"""The facts of one model file, and of all files together; immutable, so that any thread may hold them."""

from __future__ import annotations

from collections.abc import Mapping

from gpumodels_shared.records import Record, field
from gpumodels_shared.schema import Fingerprint


class FileFacts(Record):
    """The contents of a model file's header."""

    path: str
    """Absolute, symlinks resolved."""
    size_bytes: int
    modified_ns: int
    format: str
    """`safetensors`, `gguf`, `pickle` (never opened); `config` and `index` for JSON files beside models."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Raw keys and values, without thumbnails and other blobs."""
    tensors: int = 0
    dtypes: Mapping[str, int] = field(default_factory=dict)
    """Bytes in the file by dtype, under torch's names (`bfloat16`)."""
    aliases: tuple[str, ...] = ()
    """Other paths that lead to it (symlinks)."""
    shapes: bytes = b""
    """The shapes of its floating-point tensors, packed (`stored_tensors.packed_shapes`): they tell if values can match."""
    shards: tuple[str, ...] = ()
    """For an index: the names of the files beside it that together are one model."""
    rank: int | None = None
    """A LoRA's rank, from the shapes of its tensors."""
    precision: str | None = None
    """How its weights are stored, as people call it (`int4 GPTQ`); None if the dtypes say it. A config says it for others."""


class ValuesMatch(Record):
    """The files that hold a model's values."""

    files: tuple[str, ...]
    """One file, or the shards of one model, or the files of all parts of a composite; empty on a tie."""
    candidates: tuple[str, ...]
    """On a tie: the files that match equally well."""
    matched: int
    """How many of the `compared` sampled tensors match; not all if something was merged into the weights."""
    compared: int
    parts: tuple[tuple[str, ...], ...] = ()
    """Each part's files, if no single file has the whole model."""


class CatalogueState(Record):
    """Everything read so far. `by_path` has every known path, resolved or alias."""

    by_path: Mapping[str, FileFacts] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    """Files that were skipped and why, and directories that could not be watched."""
    pending: int = 0
    """The number of files found but not read yet."""
    seen: int = 0
    """The number of files found, read or not."""
    values: Mapping[Fingerprint, ValuesMatch] = field(default_factory=dict)
    """The files that hold fingerprinted models' values, as far as known."""
    unsettled: frozenset[Fingerprint] = frozenset()
    """Fingerprints that must still be compared with some file."""
