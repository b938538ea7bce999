"""Encodes snapshots as msgpack: one map per dataclass, keyed by field name. `decoding`, used by the viewer only, reverses it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgpack

from gpumodels_shared.records import Record, field_names
from gpumodels_shared.schema import LayerTree, Model, Snapshot

MAX_PAYLOAD_BYTES: Final = 4 * 1024 * 1024
"""Readers refuse larger payloads; writers fold layer trees until the payload fits."""


def encode(snapshot: Snapshot) -> bytes:
    """The snapshot as msgpack. Text that isn't valid Unicode (a file name in another encoding) gets backslash escapes.

    Raises:
        TypeError: a field holds a value of a type that the schema doesn't allow.
        OverflowError: an integer of more than 64 bits.
    """
    return Encoder().encode(snapshot)


class Encoder:
    """Encodes snapshots, or their parts, which joined give the same bytes. Not thread-safe."""

    def __init__(self) -> None:
        self._packer = msgpack.Packer(default=_as_map, unicode_errors="backslashreplace", use_bin_type=True)

    def encode(self, value: object) -> bytes:
        """Encode a dataclass of the schema, or the value of a field."""
        packed: bytes = self._packer.pack(value)
        return packed

    def around(self, value: Snapshot | Model | LayerTree, ready: Mapping[str, bytes]) -> bytes:
        """Encode a dataclass like `encode`, taking the encoded values of some fields from `ready`, by field name."""
        names = field_names(type(value))
        pieces = [self._packer.pack_map_header(len(names))]
        for name in names:
            pieces.append(self.encode(name))
            pieces.append(ready[name] if name in ready else self.encode(getattr(value, name)))
        return b"".join(pieces)

    def array(self, count: int, elements: Iterable[bytes]) -> bytes:
        """An array of `count` elements that are encoded already; one of the `elements` may hold several in a row."""
        return b"".join([self._packer.pack_array_header(count), *elements])

    def elements(self, values: Sequence[Any]) -> bytes:
        """Encode values as the elements of an array, without the array's header."""
        return self.encode(values)[1 if len(values) < 16 else 3 if len(values) < 65536 else 5 :]


def _as_map(value: object) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    if not isinstance(value, Record):
        raise TypeError(f"not in the schema: {type(value).__name__}")
    return {name: getattr(value, name) for name in field_names(type(value))}
