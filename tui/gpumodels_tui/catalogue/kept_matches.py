"""Packs the results of comparing a model's values with files for the cache on disk: one row for each model's values."""

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
"""The files of one candidate: real paths and stamps."""

MAX_KEPT: Final = 50_000
"""The most files in one row; that is 1 MB."""

_KEY_BYTES: Final = 8
_PACKED_MATCH: Final = struct.Struct(f"<{_KEY_BYTES}sHHff")
"""The files' key, the number of tensors that matched, the number compared, and how many elements these stand for."""

_RULES: Final = b"3"
"""By which values are compared; another number when the same values may give another result, so that none is kept from before."""

_STAMP: Final = struct.Struct("<4Q")
_U64: Final = 2**64 - 1
"""Masks numbers to 64 bits: times before 1970 are negative, and impossible ones may be larger."""


def values_key(fingerprint: Fingerprint) -> bytes:
    """A key for the sampled values; it doesn't depend on when they were sampled."""
    return hashlib.blake2b(msgspec.msgpack.encode(fingerprint.samples), digest_size=16, person=_RULES).digest()


def files_key(files: Files) -> bytes:
    """A key for these files in their present state; it changes when any of them changes."""
    content = b"".join(os.fsencode(path) + b"\0" + packed_stamp(stamp) for path, stamp in files)
    return hashlib.blake2b(content, digest_size=_KEY_BYTES).digest()


def packed_stamp(stamp: Stamp) -> bytes:
    """The stamp without its device number, which may be different after the next boot."""
    return _STAMP.pack(stamp.inode & _U64, stamp.modified_ns & _U64, stamp.changed_ns & _U64, stamp.size_bytes & _U64)


def packed_matches(matches: Mapping[bytes, Match]) -> bytes:
    """Pack matches by files' keys; only the last `MAX_KEPT` are kept."""
    last = list(matches.items())[-MAX_KEPT:]
    return b"".join(
        _PACKED_MATCH.pack(key, match.matched, match.compared, match.weight, match.compared_weight) for key, match in last
    )


def unpacked_matches(rows: Iterable[bytes]) -> dict[bytes, Match]:
    """Unpack one or more rows: matches by files' keys."""
    shared: dict[tuple[int, int, float, float], Match] = {}
    found: dict[bytes, Match] = {}
    for row in rows:
        for key, *counts in _PACKED_MATCH.iter_unpack(row[: len(row) // _PACKED_MATCH.size * _PACKED_MATCH.size]):
            found[key] = shared.setdefault(tuple(counts), Match(*counts))
    return found
