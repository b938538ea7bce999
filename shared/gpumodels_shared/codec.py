"""Snapshots to bytes: msgpack, one map per dataclass, keyed by field name. The way back is `decoding`, in the viewer only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, Final

import msgpack

from gpumodels_shared.schema import Snapshot

MAX_PAYLOAD_BYTES: Final = 4 * 1024 * 1024
"""Readers refuse more than this; writers fold layer trees until they fit."""


def encode(snapshot: Snapshot) -> bytes:
    """The snapshot as msgpack. Text that is no Unicode (a file name in another encoding) is written with backslash escapes.

    Raises:
        TypeError: a field holds something that the schema doesn't name.
        OverflowError: an integer of more than 64 bits.
    """
    packed = msgpack.packb(snapshot, default=_as_map, unicode_errors="backslashreplace", use_bin_type=True)
    assert isinstance(packed, bytes)
    return packed


@cache
def _field_names(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


def _as_map(value: object) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    if not is_dataclass(value) or isinstance(value, type):
        raise TypeError(f"not in the schema: {type(value).__name__}")
    return {name: getattr(value, name) for name in _field_names(type(value))}
