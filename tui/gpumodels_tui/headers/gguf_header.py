"""Reads headers of GGUF files (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md). Runs in the worker process.

The package `gguf` isn't used, since it builds an array for each of a vocabulary's 150,000 words: that takes 13 s and 700 MB,
where this module skips them in a fraction of a second.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

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

TENSOR_TYPES: Final[Mapping[int, tuple[str, int, int]]] = {
    0: ("float32", 1, 4),
    1: ("float16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("int8", 1, 1),
    25: ("int16", 1, 2),
    26: ("int32", 1, 4),
    27: ("int64", 1, 8),
    28: ("float64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("bfloat16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
}
"""By ggml's type number: its name (torch's, where torch has one), elements per block, bytes per block."""


@dataclass(frozen=True, slots=True)
class _Tensor:
    name: str
    dtype: str
    shape: tuple[int, ...]
    """In torch's order of dimensions; the file has the reverse order."""
    block: tuple[int, int]
    """Elements and bytes per block."""
    size_bytes: int
    offset: int
    """Bytes from the beginning of the tensor data."""

    def as_loaded(self) -> tuple[str, tuple[int, ...]]:
        """Its dtype and shape when loaded unchanged: quantized rows become rows of bytes."""
        elements, size = self.block
        if elements == 1 or not self.shape:
            return self.dtype, self.shape
        return "uint8", (*self.shape[:-1], self.shape[-1] // elements * size)


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
        tensors = list(cursor.tensors())
        end = cursor.position
    shapes = packed_shapes(tensor.as_loaded() for tensor in tensors)
    dtypes = dtype_bytes((tensor.dtype, tensor.size_bytes) for tensor in tensors)
    header = FileHeader("gguf", travelling_metadata(metadata), len(tensors), dtypes, shapes)
    return header, lambda: _stored(tensors, descriptor, metadata.get("general.alignment", "32"), end)


def _stored(tensors: Sequence[_Tensor], descriptor: int, stated_alignment: str, end: int) -> StoredTensors:
    alignment = int(stated_alignment) if stated_alignment.isdecimal() else 0
    if not 0 < alignment <= 1 << 20:
        raise UnreadableError("not a GGUF file, or damaged: invalid alignment")
    start = -(-end // alignment) * alignment
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

    def tensors(self) -> Iterator[_Tensor]:
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
            dtype, block, size = TENSOR_TYPES.get(kind, (f"ggml type {kind}", 1, 0))
            yield _Tensor(name, dtype, shape, (block, size), math.prod(shape) // block * size, self._take(_U64))

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

    def _array(self) -> str | None:
        """The texts of a short array, joined; None for any other array, which is skipped."""
        kind, count = self._take(_U32), self._take(_U64)
        if kind in _SCALARS:
            self._skip(count * struct.calcsize(_SCALARS[kind]))
            return None
        if kind != _STRING:
            raise UnreadableError(f"an array of type {kind} is not supported")
        if count <= MAX_WORDS:
            return ", ".join(self._text() for _ in range(count))
        self._skipped_texts += count
        if self._skipped_texts > MAX_SKIPPED_TEXTS:
            raise UnreadableError(f"not a GGUF file, or damaged: a vocabulary of {count} words")
        data, position, length_at = self._data, self.position, _U64.unpack_from
        for _ in range(count):
            position += 8 + length_at(data, position)[0]
        self.position = position
        return None

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
