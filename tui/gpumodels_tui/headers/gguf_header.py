"""Reads headers of GGUF files (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md). Runs in the worker process.

The package `gguf` isn't used, since it builds an array for each of a vocabulary's 150,000 words: that takes 13 s and 700 MB,
where this module skips them in a fraction of a second.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import mmap
import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from gpumodels_shared.precision import of_gguf
from gpumodels_tui.headers.ggml_types import tensor_type
from gpumodels_tui.headers.headers import FileHeader, UnreadableError
from gpumodels_tui.headers.metadata import travelling_metadata
from gpumodels_tui.headers.stored_tensors import StoredTensor, StoredTensors, dtype_bytes, packed_shapes

MAGIC: Final = b"GGUF"
VERSIONS: Final = (2, 3)

MAX_KEYS: Final = 10_000
MAX_TENSORS: Final = 100_000
MAX_DIMENSIONS: Final = 8
MAX_TEXT_BYTES: Final = 1024 * 1024
"""The most bytes kept of one key or value."""
MAX_WORDS: Final = 16
"""An array of more texts than this is a vocabulary or the like, and is left out."""
MAX_SKIPPED_TEXTS: Final = 2_000_000
MAX_SKIPPED_ARRAYS: Final = 200_000
MAX_ARRAY_DEPTH: Final = 8
"""GGUF's description allows arrays of arrays, and says no depth."""
MAX_SIZE: Final = 2**62
"""Sizes beyond, which no file has, don't fit into messages."""

_STRING: Final = 8
_ARRAY: Final = 9
_SCALARS: Final[Mapping[int, str]] = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")


class _Entry(NamedTuple):
    """One tensor's entry in the header."""

    name: str
    type_number: int
    shape: tuple[int, ...]
    offset: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    name: str
    dtype: str
    shape: tuple[int, ...]
    """In torch's order of dimensions; the file has the reverse order."""
    row_bytes: int | None
    """For blocks: the bytes of a row, which is what a row of bytes has when it is loaded; None for single elements."""
    size_bytes: int
    offset: int
    """Bytes from the beginning of the tensor data."""

    def as_loaded(self) -> tuple[str, tuple[int, ...]]:
        """Its dtype and shape when loaded unchanged: quantized rows become rows of bytes."""
        if self.row_bytes is None or not self.shape:
            return self.dtype, self.shape
        return "uint8", (*self.shape[:-1], self.row_bytes)


def recognises(beginning: bytes, size_bytes: int) -> bool:
    """Whether the file begins with GGUF's magic number."""
    return beginning.startswith(MAGIC)


def read(path: str, beginning: bytes, size_bytes: int) -> FileHeader:
    """Read the header: metadata without vocabularies, and a summary of the tensors.

    Raises:
        UnreadableError: the file is broken, incomplete, or of an unknown version.
    """
    return read_values(path, -1, beginning, size_bytes)[0]


def read_values(path: str, descriptor: int, beginning: bytes, size_bytes: int) -> tuple[FileHeader, Callable[[], StoredTensors]]:
    """The header of an open file, and a function for the positions of its tensors.

    Raises:
        UnreadableError: as `read`; the function raises it if the file's alignment is invalid.
    """
    _check(beginning, size_bytes)
    with _mapped(path) as data:
        cursor = _HeaderCursor(data)
        metadata = cursor.metadata()
        entries = list(cursor.entries())
    alignment = _alignment(metadata.get("general.alignment", "32"))
    start = -(-cursor.position // (alignment or 1)) * (alignment or 1)
    tensors = _tensors(entries, size_bytes - start, alignment or 1)
    shapes = packed_shapes(tensor.as_loaded() for tensor in tensors)
    dtypes = dtype_bytes((tensor.dtype, tensor.size_bytes) for tensor in tensors)
    precision = of_gguf(metadata.get("general.file_type"), dtypes)
    header = FileHeader("gguf", travelling_metadata(metadata), len(tensors), dtypes, shapes, precision=precision)
    return header, lambda: _stored(tensors, descriptor, None if alignment is None else start)


def _alignment(stated: str) -> int | None:
    """The alignment of the tensors in bytes; None if it is invalid."""
    alignment = int(stated) if stated.isdecimal() and len(stated) < 10 else 0
    return alignment if 0 < alignment <= 1 << 20 else None


def _tensors(entries: Sequence[_Entry], data_bytes: int, alignment: int) -> list[_Tensor]:
    """The tensors with their sizes: as their types have it, unless the offset of the tensor behind says otherwise.

    Args:
        entries: as they stand in the header.
        data_bytes: the size of all tensors together, if the file is complete.
        alignment: fewer bytes than so many lie between a tensor and the next one.
    """
    offsets = sorted({entry.offset for entry in entries})
    next_offset = dict(itertools.pairwise(offsets))
    found: list[_Tensor] = []
    for name, number, shape, offset in entries:
        kind = tensor_type(number)
        elements = math.prod(shape)
        stated = elements // kind.elements * kind.size_bytes
        room = next_offset[offset] - offset if offset in next_offset else None
        if kind.size_bytes and (room is None or stated <= room < stated + alignment):
            row_bytes = shape[-1] // kind.elements * kind.size_bytes if shape and kind.elements > 1 else None
            found.append(_Tensor(name, kind.name, shape, row_bytes, min(stated, MAX_SIZE), offset))
            continue
        if room is None:
            room = max(0, data_bytes - offset)
        rows = math.prod(shape[:-1])
        # What lies between two tensors is less than a byte for each row where there are many rows.
        row_bytes = room // rows if rows >= alignment else None
        size_bytes = room if row_bytes is None else row_bytes * rows
        is_other_type = not kind.allows(8 * size_bytes, elements)
        dtype = f"ggml type {number}" if is_other_type else kind.name
        found.append(_Tensor(name, dtype, shape, row_bytes, min(size_bytes, MAX_SIZE), offset))
    return found


def _stored(tensors: Sequence[_Tensor], descriptor: int, start: int | None) -> StoredTensors:
    if start is None:
        raise UnreadableError("not a GGUF file, or damaged: invalid alignment")
    found = StoredTensors()
    for tensor in tensors:
        found.add(tensor.name, StoredTensor(*tensor.as_loaded(), descriptor, start + tensor.offset))
    return found


def _check(beginning: bytes, size_bytes: int) -> None:
    if size_bytes == 0:
        raise UnreadableError("empty file", unfinished=True)
    if size_bytes < 24:
        raise UnreadableError(f"too short to be a GGUF file ({size_bytes} bytes)", unfinished=True)
    if not recognises(beginning, size_bytes):
        raise UnreadableError("not a GGUF file, or damaged: wrong magic number", unfinished=not any(beginning))
    (version,) = _U32.unpack_from(beginning, 4)
    if version not in VERSIONS:
        raise UnreadableError("a big-endian GGUF file" if version >> 16 else f"GGUF version {version} is not supported")


@contextlib.contextmanager
def _mapped(path: str) -> Iterator[mmap.mmap]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as data:
            yield data
    except (struct.error, IndexError, OverflowError) as error:
        raise UnreadableError("truncated, or damaged: its header extends past the end of the file", unfinished=True) from error
    finally:
        os.close(descriptor)


class _HeaderCursor:
    """Reads the header sequentially. Raises struct.error or IndexError at the end of the file."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._tensor_count, self._key_count = struct.unpack_from("<QQ", data, 8)
        self._skipped_texts = 0
        self._skipped_arrays = 0
        self.position = 24

    def metadata(self) -> dict[str, str]:
        if self._key_count > MAX_KEYS:
            raise UnreadableError(f"not a GGUF file, or damaged: {self._key_count} metadata keys")
        found: dict[str, str] = {}
        for _ in range(self._key_count):
            key = self._text()
            value = self._value(self._take(_U32))
            if value is not None:
                found[key] = value
        return found

    def entries(self) -> Iterator[_Entry]:
        """Read all tensors' entries; call it after `metadata`."""
        if self._tensor_count > MAX_TENSORS:
            raise UnreadableError(f"not a GGUF file, or damaged: {self._tensor_count} tensors")
        for _ in range(self._tensor_count):
            name = self._text()
            dimensions = self._take(_U32)
            if dimensions > MAX_DIMENSIONS:
                raise UnreadableError(f"not a GGUF file, or damaged: a tensor of {dimensions} dimensions")
            shape = tuple(self._take(_U64) for _ in range(dimensions))[::-1]
            kind = self._take(_U32)
            yield _Entry(name, kind, shape, self._take(_U64))

    def _value(self, kind: int) -> str | None:
        if kind == _STRING:
            return self._text()
        if kind == _ARRAY:
            return self._array()
        if kind not in _SCALARS:
            raise UnreadableError(f"not a GGUF file, or damaged: a value of type {kind}")
        (value,) = struct.unpack_from(_SCALARS[kind], self._data, self.position)
        self.position += struct.calcsize(_SCALARS[kind])
        return str(value).lower() if kind == 7 else str(value)

    def _array(self, depth: int = 0) -> str | None:
        """The texts of a short array, joined; None for any other array, which is skipped."""
        kind, count = self._take(_U32), self._take(_U64)
        if kind in _SCALARS:
            self._skip(count * struct.calcsize(_SCALARS[kind]))
            return None
        if kind == _ARRAY:
            self._skip_arrays(count, depth + 1)
            return None
        if kind != _STRING:
            raise UnreadableError(f"not a GGUF file, or damaged: an array of type {kind}")
        if count <= MAX_WORDS and not depth:
            return ", ".join(self._text() for _ in range(count))
        self._skipped_texts += count
        if self._skipped_texts > MAX_SKIPPED_TEXTS:
            raise UnreadableError(f"not a GGUF file, or damaged: a vocabulary of {count} words")
        data, position, length_at = self._data, self.position, _U64.unpack_from
        for _ in range(count):
            position += 8 + length_at(data, position)[0]
        self.position = position
        return None

    def _skip_arrays(self, count: int, depth: int) -> None:
        self._skipped_arrays += count
        if self._skipped_arrays > MAX_SKIPPED_ARRAYS or depth > MAX_ARRAY_DEPTH:
            raise UnreadableError("not a GGUF file, or damaged: too many arrays in arrays")
        for _ in range(count):
            self._array(depth)

    def _text(self) -> str:
        length = self._take(_U64)
        start = self.position
        self._skip(length)
        return self._data[start : start + min(length, MAX_TEXT_BYTES)].decode(errors="backslashreplace")

    def _take(self, layout: struct.Struct) -> int:
        (value,) = layout.unpack_from(self._data, self.position)
        self.position += layout.size
        return int(value)

    def _skip(self, count: int) -> None:
        if count > len(self._data) - self.position:
            raise IndexError("past the end")
        self.position += count
