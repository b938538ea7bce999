"""Snapshots to bytes: msgpack, one map per dataclass, keyed by field name. The way back is `decoding`, in the viewer only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Final

import msgpack

from gpumodels_shared.schema import LayerTree, Model, Snapshot

MAX_PAYLOAD_BYTES: Final = 4 * 1024 * 1024
"""Readers refuse more than this; writers fold layer trees until they fit."""


def encode(snapshot: Snapshot) -> bytes:
    """The snapshot as msgpack. Text that is no Unicode (a file name in another encoding) is written with backslash escapes.

    Raises:
        TypeError: a field holds something that the schema doesn't name.
        OverflowError: an integer of more than 64 bits.
    """
    return Encoder().encode(snapshot)


class Encoder:
    """Writes whole snapshots, or parts that joined are the same bytes. Not for two threads at once."""

    def __init__(self) -> None:
        self._packer = msgpack.Packer(default=_as_map, unicode_errors="backslashreplace", use_bin_type=True)

    def encode(self, value: object) -> bytes:
        """A dataclass of the schema, or a value of a field."""
        packed: bytes = self._packer.pack(value)
        return packed

    def around(self, value: Snapshot | Model | LayerTree, ready: Mapping[str, bytes]) -> bytes:
        """A dataclass as `encode` would write it, but for the fields whose bytes are given."""
        names = [field.name for field in fields(value)]
        pieces = [self._packer.pack_map_header(len(names))]
        for name in names:
            pieces.append(self.encode(name))
            pieces.append(ready[name] if name in ready else self.encode(getattr(value, name)))
        return b"".join(pieces)

    def array(self, count: int, elements: Iterable[bytes]) -> bytes:
        """An array of so many elements, whose bytes are given, several together if need be."""
        return b"".join([self._packer.pack_array_header(count), *elements])

    def elements(self, values: Sequence[Any]) -> bytes:
        """The elements of an array one after the other, without its header."""
        return self.encode(values)[1 if len(values) < 16 else 3 if len(values) < 65536 else 5 :]


def _as_map(value: object) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    if not is_dataclass(value) or isinstance(value, type):
        raise TypeError(f"not in the schema: {type(value).__name__}")
    return {field.name: getattr(value, field.name) for field in fields(value)}
