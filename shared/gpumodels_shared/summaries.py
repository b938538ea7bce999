"""Decodes what other programs are told of a snapshot, by msgpack alone: layer trees, samples and metadata are skipped.

A payload is from another process, which may be hostile. Once its shape is checked, values are read one by one, and each is looked
at before it is built: one of a wrong type ends the decoding. So nothing is built that isn't asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar

import msgpack

from gpumodels_shared.codec import MAX_PAYLOAD_BYTES
from gpumodels_shared.payload_shape import DecodeError, check_shape
from gpumodels_shared.schema import DeviceMemory, Model, ProcessInfo, Snapshot

MAX_LISTED: Final = 10_000
"""The most models, files and the like in a single list or map, as in `decoding`."""

T = TypeVar("T")


def decode_summary(payload: bytes) -> Snapshot:
    """The snapshot with its process, devices and models, without what is large and rarely needed.

    Raises:
        DecodeError: it is no snapshot.
    """
    check_shape(payload)
    try:
        found = _Values(payload).fields(_SNAPSHOT)
        return Snapshot(found["taken_at_ns"], found["process"], found.get("devices", ()), found.get("models", ()))
    except DecodeError:
        raise
    except (KeyError, TypeError, ValueError, msgpack.UnpackException, RecursionError) as error:
        raise DecodeError(f"not a snapshot: {type(error).__name__} {str(error)[:200]}".rstrip()) from error


class _Values:
    """The values of a complete payload in their order, each read as what it must be.

    The first byte of a value tells its type: see msgpack's specification.
    """

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._unpacker = msgpack.Unpacker(None, max_buffer_size=MAX_PAYLOAD_BYTES)
        self._unpacker.feed(payload)

    def fields(self, wanted: Mapping[str, Callable[[_Values], Any]]) -> dict[str, Any]:
        """The wanted fields of a map, each read by its function."""
        found: dict[str, Any] = {}
        for name in self._keys():
            if (read := wanted.get(name)) is not None:
                found[name] = read(self)
            else:
                self._unpacker.skip()
        return found

    def text(self) -> str:
        first = self._first()
        if not (0xA0 <= first <= 0xBF or 0xD9 <= first <= 0xDB):
            raise DecodeError("not a snapshot: something else than a text")
        text: str = self._unpacker.unpack()
        return text

    def integer(self) -> int:
        first = self._first()
        if not (first <= 0x7F or first >= 0xE0 or 0xCC <= first <= 0xD3):
            raise DecodeError("not a snapshot: something else than a whole number")
        integer: int = self._unpacker.unpack()
        return integer

    def count(self) -> int:
        if (count := self.integer()) < 0:
            raise DecodeError("a negative count")
        return count

    def number(self) -> float:
        if self._first() not in (0xCA, 0xCB):
            return float(self.integer())
        number: float = self._unpacker.unpack()
        if not math.isfinite(number):
            raise DecodeError("a number that is none")
        return number

    def flag(self) -> bool:
        if (first := self._first()) not in (0xC2, 0xC3):
            raise DecodeError("not a snapshot: something else than yes or no")
        self._unpacker.skip()
        return first == 0xC3

    def counts(self) -> dict[str, int]:
        return {key: self.count() for key in self._keys()}

    def listed(self, read: Callable[[_Values], T]) -> tuple[T, ...]:
        first = self._first()
        if not (0x90 <= first <= 0x9F or first in (0xDC, 0xDD)):
            raise DecodeError("not a snapshot: something else than a list")
        count: int = self._unpacker.read_array_header()
        if count > MAX_LISTED:
            raise DecodeError(f"a list of {count} entries")
        return tuple(read(self) for _ in range(count))

    def unless_nil(self, read: Callable[[_Values], T]) -> T | None:
        if self._first() != 0xC0:
            return read(self)
        self._unpacker.skip()
        return None

    def _keys(self) -> Iterator[str]:
        """The keys of a map; each one's value must be read before the next."""
        first = self._first()
        if not (0x80 <= first <= 0x8F or first in (0xDE, 0xDF)):
            raise DecodeError("not a snapshot: something else than a map")
        count: int = self._unpacker.read_map_header()
        if count > MAX_LISTED:
            raise DecodeError(f"a map of {count} entries")
        for _ in range(count):
            yield self.text()

    def _first(self) -> int:
        position: int = self._unpacker.tell()
        return self._payload[position]


def _listed(read: Callable[[_Values], T]) -> Callable[[_Values], tuple[T, ...]]:
    return lambda values: values.listed(read)


def _unless_nil(read: Callable[[_Values], T]) -> Callable[[_Values], T | None]:
    return lambda values: values.unless_nil(read)


def _process(values: _Values) -> ProcessInfo:
    return ProcessInfo(command=(), **values.fields(_PROCESS))


def _device(values: _Values) -> DeviceMemory:
    return DeviceMemory(**values.fields(_DEVICE))


def _model(values: _Values) -> Model:
    return Model(**values.fields(_MODEL))


_PROCESS: Final[Mapping[str, Callable[[_Values], Any]]] = {
    "pid": _Values.count,
    "uid": _Values.count,
    "label": _Values.text,
    "started_at_ns": _Values.integer,
    "python_version": _Values.text,
    "sidecar_version": _Values.text,
    "interval_seconds": _Values.number,
    "torch_version": _unless_nil(_Values.text),
    "visible_devices": _unless_nil(_Values.text),
    "platform": _unless_nil(_Values.text),
}
_DEVICE: Final[Mapping[str, Callable[[_Values], Any]]] = {
    "device": _Values.text,
    "models_bytes": _Values.count,
    "uuid": _unless_nil(_Values.text),
    "simulated": _Values.flag,
    "allocated_bytes": _unless_nil(_Values.count),
    "reserved_bytes": _unless_nil(_Values.count),
}
_MODEL: Final[Mapping[str, Callable[[_Values], Any]]] = {
    "id": _Values.text,
    "name": _Values.text,
    "kind": _Values.text,
    "class_name": _Values.text,
    "loaded_at_ns": _Values.integer,
    "bytes_by_device": _Values.counts,
    "layers": _Values.count,
    "parameters": _Values.count,
    "dtypes": _Values.counts,
    "name_source": _Values.text,
    "confidence": _Values.number,
    "files": _listed(_Values.text),
    "device": _unless_nil(_Values.text),
    "offloaded_bytes": _Values.count,
    "parent": _unless_nil(_Values.text),
    "precision": _unless_nil(_Values.text),
}
_SNAPSHOT: Final[Mapping[str, Callable[[_Values], Any]]] = {
    "taken_at_ns": _Values.integer,
    "process": _process,
    "devices": _listed(_device),
    "models": _listed(_model),
}
