"""What travels between the viewer and its header worker: a path one way, a header or a reason the other, in framed msgpack."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

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


@dataclass(frozen=True, slots=True)
class Request:
    """Read this file's header."""

    path: bytes
    """As the file system spells it: not all names are Unicode."""
    suffix: str | None
    """Which reader; None for the one that recognises the file's beginning."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Its header, or why there is none; neither where no reader recognises the file."""

    header: FileHeader | None = None
    reason: str | None = None
    unfinished: bool = False


def frame(message: Request | Reply) -> bytes:
    """The message as it goes through the pipe."""
    packed = msgspec.msgpack.encode(message)
    return FRAME.pack(len(packed)) + packed
