"""How much of a model's values agreed with which files, packed as it is kept on disk: a row for each model's values."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from gpumodels_shared.fingerprint import Match
from gpumodels_shared.schema import Fingerprint
from gpumodels_tui.catalogue.tree import Stamp

Files = tuple[tuple[str, Stamp], ...]
"""One model's: real paths."""

MAX_KEPT: Final = 50_000
"""Files in a row: 600 KB."""

_KEY_BYTES: Final = 8
_ANSWER: Final = struct.Struct(f"<{_KEY_BYTES}sHH")
"""The files' key, tensors that matched, tensors compared."""

_STAMP: Final = struct.Struct("<4Q")
_BITS: Final = 2**64 - 1
"""Of a time before 1970, or one that no clock shows, what is left in these."""


def values_key(fingerprint: Fingerprint) -> bytes:
    """The same for the same values, whenever they were seen."""
    return hashlib.blake2b(msgspec.msgpack.encode(fingerprint.samples), digest_size=16).digest()


def files_key(files: Files) -> bytes:
    """Another one as soon as any of the files is another, or changed."""
    together = b"".join(os.fsencode(path) + b"\0" + packed_stamp(stamp) for path, stamp in files)
    return hashlib.blake2b(together, digest_size=_KEY_BYTES).digest()


def packed_stamp(stamp: Stamp) -> bytes:
    """Without the device's number: it is another one after the next boot."""
    return _STAMP.pack(stamp.inode & _BITS, stamp.modified_ns & _BITS, stamp.changed_ns & _BITS, stamp.size_bytes & _BITS)


def packed_matches(matches: Mapping[bytes, Match]) -> bytes:
    """Matches by files' keys; of too many, the last."""
    last = list(matches.items())[-MAX_KEPT:]
    return b"".join(_ANSWER.pack(key, match.matched, match.compared) for key, match in last)


def unpacked_matches(rows: Iterable[bytes]) -> dict[bytes, Match]:
    """What was packed, of one row or several."""
    alike: dict[tuple[int, int], Match] = {}
    found: dict[bytes, Match] = {}
    for row in rows:
        for key, matched, compared in _ANSWER.iter_unpack(row[: len(row) // _ANSWER.size * _ANSWER.size]):
            counts = (matched, compared)
            found[key] = alike.get(counts) or alike.setdefault(counts, Match(matched, compared))
    return found
