"""What travels between the viewer and its header worker, in framed msgpack: a path one way, a header or a reason the other;
or the files of one model and the fingerprints that may be theirs, and how much of each agrees.

A fingerprint travels to a worker once and is then spoken of by its number.
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
class Wanted:
    """A fingerprint whose file is looked for."""

    number: int
    """No other fingerprint's, as long as the viewer runs."""
    fingerprint: Fingerprint


@dataclass(frozen=True, slots=True)
class Request:
    """Read this file's header and compare the wanted fingerprints with its values; or compare them with several files'."""

    path: bytes
    """As the file system spells it: not all names are Unicode."""
    suffix: str | None
    """Which reader; None for the one that recognises the file's beginning."""
    wanted: tuple[int, ...] = ()
    """Numbers of fingerprints, told with this request or before."""
    told: tuple[Wanted, ...] = ()
    forget: bool = False
    """All that was told before."""
    is_read: bool = True
    """Whether the header is asked for, too."""
    others: tuple[bytes, ...] = ()
    """The other shards of the model that the first path is one of."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Its header, or why there is none; neither where no reader recognises the file."""

    header: FileHeader | None = None
    matches: tuple[Match | None, ...] = ()
    """In the order of the wanted, as many as there was time for; None for those that the file's shapes rule out.
    Not one where the values can't be read."""
    reason: str | None = None
    unfinished: bool = False


def frame(message: Request | Reply) -> bytes:
    """The message as it goes through the pipe."""
    packed = msgspec.msgpack.encode(message)
    return FRAME.pack(len(packed)) + packed
