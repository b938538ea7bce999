"""What travels between the viewer and its header worker, in framed msgpack: a path one way, a header or a reason the other;
or a fingerprint and the files that may be its own, and how much of it agrees."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from gpumodels_shared.fingerprint import Match
from gpumodels_shared.schema import Fingerprint
from gpumodels_tui.catalogue.metadata import brief_metadata

FRAME: Final = struct.Struct("<I")
"""Before each message: its length in bytes."""

MAX_FRAME_BYTES: Final = 8 * 1024 * 1024


class UnreadableError(Exception):
    """A file whose header can't be had; the text says why, in a few words, without its path."""

    def __init__(self, reason: str, unfinished: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.unfinished = unfinished
        """It looks like a file that someone is still writing."""


@dataclass(frozen=True, slots=True)
class FileHeader:
    """What one model file says of itself."""

    format: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    tensors: int = 0
    dtypes: Mapping[str, int] = field(default_factory=dict)
    """Bytes by dtype, torch's names."""
    shapes: bytes = b""
    """The distinct shapes of its floating tensors, see `stored_tensors.packed_shapes`; empty where nothing is known of them."""
    shards: tuple[str, ...] = ()
    """Names of the files beside it that are one model: of an index."""
    is_brief: bool = False
    """There are more metadata than these."""
    rank: int | None = None
    """A LoRA's, by the shapes of its tensors."""

    def brief(self) -> FileHeader:
        """As much of it as is kept of a file that nobody asked about; itself where that is all."""
        metadata = brief_metadata(self.metadata)
        return self if metadata is self.metadata else replace(self, metadata=metadata, is_brief=True)


@dataclass(frozen=True, slots=True)
class Request:
    """Read this file's header; or, with a fingerprint, compare it with the file's values."""

    path: bytes
    """As the file system spells it: not all names are Unicode."""
    suffix: str | None
    """Which reader; None for the one that recognises the file's beginning."""
    fingerprint: Fingerprint | None = None
    others: tuple[bytes, ...] = ()
    """The other shards of the model that the first path is one of."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Its header, or why there is none; neither where no reader recognises the file. A match where one was asked for."""

    header: FileHeader | None = None
    match: Match | None = None
    reason: str | None = None
    unfinished: bool = False


def frame(message: Request | Reply) -> bytes:
    """The message as it goes through the pipe."""
    packed = msgspec.msgpack.encode(message)
    return FRAME.pack(len(packed)) + packed
