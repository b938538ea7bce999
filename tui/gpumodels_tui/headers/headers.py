"""The messages between the viewer and its header worker, in framed msgpack.

A request names a file to read, or the files of one model to compare with fingerprints. The reply has the header or the reason why
there is none, and how much of each fingerprint matches. A fingerprint is sent to a worker once, then referred to by its number.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from gpumodels_shared.fingerprint import Match
from gpumodels_shared.schema import Fingerprint
from gpumodels_tui.headers.metadata import brief_metadata

FRAME: Final = struct.Struct("<I")
"""The length of the message in bytes, which precedes each message."""

MAX_FRAME_BYTES: Final = 8 * 1024 * 1024

CONFIG: Final = "config"
"""The format of files that describe the model files in the same directory."""


class UnreadableError(Exception):
    """A file whose header can't be read; the text says why in a few words, without the path."""

    def __init__(self, reason: str, unfinished: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.unfinished = unfinished
        """Whether the file may be incomplete because it is still being written."""


@dataclass(frozen=True, slots=True)
class FileHeader:
    """The contents of one model file's header."""

    format: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    tensors: int = 0
    dtypes: Mapping[str, int] = field(default_factory=dict)
    """Bytes by dtype, under torch's names."""
    shapes: bytes = b""
    """The distinct shapes of its floating-point tensors, see `stored_tensors.packed_shapes`; empty if they aren't known."""
    shards: tuple[str, ...] = ()
    """For an index: the names of the files beside it that together are one model."""
    is_brief: bool = False
    """Whether these are only part of the metadata."""
    rank: int | None = None
    """A LoRA's rank, from the shapes of its tensors."""
    precision: str | None = None
    """How its weights are stored, as people call it (`int4 GPTQ`); None if the dtypes say it. A config says it for others."""

    def brief(self) -> FileHeader:
        """The part kept in memory for a file that no model came from; the same object if that is everything."""
        metadata = brief_metadata(self.metadata, is_config=self.format == CONFIG)
        return self if metadata is self.metadata else replace(self, metadata=metadata, is_brief=True)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A fingerprint whose file is searched for."""

    number: int
    """Unique within one run of the viewer."""
    fingerprint: Fingerprint


@dataclass(frozen=True, slots=True)
class Request:
    """Read a file's header and compare its values with fingerprints, or compare the values of several files only."""

    path: bytes
    """In the file system's encoding: not all names are Unicode."""
    suffix: str | None
    """Selects the reader; None for the one that recognises the file's first bytes."""
    wanted: tuple[int, ...] = ()
    """Numbers of the fingerprints to compare, sent in `new_fingerprints` of this request or an earlier one."""
    new_fingerprints: tuple[Wanted, ...] = ()
    forget: bool = False
    """Whether to forget all fingerprints sent before."""
    is_read: bool = True
    """Whether to reply with the header, too."""
    others: tuple[bytes, ...] = ()
    """The other shards of the same model."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The file's header, or the reason why there is none; neither if no reader recognises the file."""

    header: FileHeader | None = None
    matches: tuple[Match | None, ...] = ()
    """In the order of `Request.wanted`, as many as there was time for; None if the file's shapes rule a match out.
    Empty if the values can't be read."""
    reason: str | None = None
    unfinished: bool = False


def frame(message: Request | Reply) -> bytes:
    """Encode the message, preceded by its length."""
    packed = msgspec.msgpack.encode(message)
    return FRAME.pack(len(packed)) + packed
