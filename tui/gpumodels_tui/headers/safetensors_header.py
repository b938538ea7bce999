"""Reads headers of safetensors files with the safetensors library. Runs in the worker process, since it imports numpy.

Layout (https://github.com/huggingface/safetensors#format): u64 little-endian header length, the header in JSON, the tensors.
"""

from __future__ import annotations

import math
import os
import struct
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from safetensors import SafetensorError, safe_open

from gpumodels_shared.floats import ITEM_BYTES
from gpumodels_shared.packed_tensors import PACKED, TensorPrecision
from gpumodels_shared.quantization_configs import of_comfy_metadata, of_config
from gpumodels_shared.units import format_bytes
from gpumodels_tui.headers.headers import FileHeader, UnreadableError
from gpumodels_tui.headers.large_headers import Entry, LargeHeader, decoded_entries
from gpumodels_tui.headers.metadata import travelling_metadata
from gpumodels_tui.headers.stored_tensors import (
    MAX_DIMENSIONS,
    MAX_SHAPES,
    StoredTensor,
    StoredTensors,
    dtype_bytes,
    packed_shapes,
)

_LENGTH: Final = struct.Struct("<Q")

MAX_HEADER_BYTES: Final = 100_000_000
"""safetensors' own limit (`MAX_HEADER_SIZE`, in version 0.8 as in the first)."""

LARGE_HEADER_BYTES: Final = 12 * 1024 * 1024
"""Longer ones are read in pieces. 40,000 tensors take 5 MB, 130,000 take 18; some files have workflows in their metadata."""

MAX_COMPARED_TENSORS: Final = 150_000
"""A file of more tensors isn't compared with values in memory, since that takes the positions of all of them."""

MAX_REASON_CHARACTERS: Final = 200
NOT_COVERED: Final = "truncated, or damaged: its tensors don't cover the file exactly"

_DTYPES: Final[Mapping[str, tuple[str, int]]] = {
    "BOOL": ("bool", 8),
    "U8": ("uint8", 8),
    "I8": ("int8", 8),
    "U16": ("uint16", 16),
    "I16": ("int16", 16),
    "U32": ("uint32", 32),
    "I32": ("int32", 32),
    "U64": ("uint64", 64),
    "I64": ("int64", 64),
    "F4": ("float4_e2m1fn_x2", 4),
    "F6_E2M3": ("float6_e2m3", 6),
    "F6_E3M2": ("float6_e3m2", 6),
    "F8_E8M0": ("float8_e8m0fnu", 8),
    "F8_E4M3": ("float8_e4m3fn", 8),
    "F8_E5M2": ("float8_e5m2", 8),
    "F8_E4M3FNUZ": ("float8_e4m3fnuz", 8),
    "F8_E5M2FNUZ": ("float8_e5m2fnuz", 8),
    "F16": ("float16", 16),
    "BF16": ("bfloat16", 16),
    "F32": ("float32", 32),
    "F64": ("float64", 64),
    "C64": ("complex64", 64),
}
"""By the file's dtype code: torch's name, where torch has one, and bits per element."""


def recognises(beginning: bytes, size_bytes: int) -> bool:
    """Whether the file begins like a safetensors file: a plausible header length, then JSON."""
    if len(beginning) < _LENGTH.size + 1:
        return False
    (length,) = _LENGTH.unpack_from(beginning)
    return 2 <= length <= min(MAX_HEADER_BYTES, size_bytes - _LENGTH.size) and beginning[_LENGTH.size : _LENGTH.size + 1] == b"{"


def read(path: str, beginning: bytes, size_bytes: int) -> FileHeader:
    """Read the header of a regular file, given its first bytes and its size.

    Raises:
        UnreadableError: the file is broken or incomplete.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        return read_values(path, descriptor, beginning, size_bytes)[0]
    finally:
        os.close(descriptor)


def read_values(path: str, descriptor: int, beginning: bytes, size_bytes: int) -> tuple[FileHeader, Callable[[], StoredTensors]]:
    """The header of an open file, and a function for the positions of its tensors. The tensor table is parsed only once.

    Raises:
        UnreadableError: the file is broken or incomplete.
    """
    length = _checked_length(beginning, size_bytes)
    if length > LARGE_HEADER_BYTES:
        try:
            return _read_in_pieces(descriptor, length, size_bytes)
        except MemoryError as error:
            raise UnreadableError(f"its header is too long ({format_bytes(length)})") from error
    try:
        with safe_open(path, framework="numpy") as file:  # it validates the header
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise UnreadableError(_short_reason(error), unfinished=True) from error
    entries = _entries(descriptor, length)
    summary = _Summary()
    summary.add(entries)
    return summary.header(metadata), lambda: _stored(entries, descriptor, _LENGTH.size + length)


def _read_in_pieces(descriptor: int, length: int, size_bytes: int) -> tuple[FileHeader, Callable[[], StoredTensors]]:
    header = LargeHeader(descriptor, _LENGTH.size, length)
    summary = _Summary()
    try:
        metadata = header.metadata()
        for piece in header.pieces():
            summary.add(piece)
    finally:
        header.close()
    if not summary.end_of_data == summary.data_bytes == size_bytes - _LENGTH.size - length:
        raise UnreadableError(NOT_COVERED, unfinished=True)

    def values() -> StoredTensors:
        if summary.tensors > MAX_COMPARED_TENSORS:
            raise UnreadableError("too many tensors to be compared")
        return _stored(_entries(descriptor, length), descriptor, _LENGTH.size + length)

    return summary.header(metadata), values


class _Summary:
    """What a header says of all tensors together, in bounded memory."""

    def __init__(self) -> None:
        self.tensors = 0
        self.end_of_data = 0
        """Bytes from the beginning of the data to the end of the last tensor."""
        self.data_bytes = 0
        """Of all tensors."""
        self._bytes: dict[str, int] = {}
        self._shapes: dict[tuple[int, ...], str] = {}
        """By shape, a dtype of tensors whose values can be compared; one more than `packed_shapes` takes at most."""
        self._ranks: set[int] = set()
        self._precision = TensorPrecision()

    def add(self, entries: Mapping[str, Entry]) -> None:
        """Add some tensors."""
        self.tensors += len(entries)
        has_packed, elements = False, 0
        for (code, shape), count in Counter((entry.dtype, entry.shape) for entry in entries.values()).items():
            dtype, bits = _DTYPES.get(code, (code.lower(), 0))
            self._bytes[dtype] = self._bytes.get(dtype, 0) + math.prod(shape) * bits // 8 * count
            has_packed = has_packed or dtype in PACKED
            elements += math.prod(shape) * count
            if dtype in ITEM_BYTES and len(shape) <= MAX_DIMENSIONS and len(self._shapes) <= MAX_SHAPES:
                self._shapes[shape] = dtype
        if has_packed:
            for key, entry in entries.items():
                self._precision.add(key, _DTYPES.get(entry.dtype, (entry.dtype, 0))[0], entry.shape)
        else:
            self._precision.add_unpacked(elements)
        for entry in entries.values():
            begin, end = entry.data_offsets
            self.data_bytes += end - begin
            self.end_of_data = max(self.end_of_data, end)
        if len(self._ranks) < 2:
            self._ranks.update(entry.shape[0] for key, entry in entries.items() if key.endswith(_DOWN) and entry.shape)

    def header(self, metadata: Mapping[str, str]) -> FileHeader:
        """The header that is passed on."""
        return FileHeader(
            "safetensors",
            travelling_metadata(metadata),
            self.tensors,
            dtype_bytes(self._bytes.items()),
            packed_shapes((dtype, shape) for shape, dtype in self._shapes.items()),
            rank=next(iter(self._ranks)) if len(self._ranks) == 1 else None,
            precision=_stated_precision(metadata) or self._precision.label(),
        )


def _stated_precision(metadata: Mapping[str, str]) -> str | None:
    """What the metadata say of how the weights are packed: ComfyUI's of each layer, nunchaku's and others' as a config."""
    for key in (COMFY_METADATA, QUANTIZATION_CONFIG):
        try:
            stated = msgspec.json.decode(metadata.get(key, "null"), type=dict[str, object] | None)
        except (msgspec.MsgspecError, RecursionError):
            continue
        label = None if stated is None else of_comfy_metadata(stated) if key == COMFY_METADATA else of_config({key: stated})
        if label is not None:
            return label
    return None


COMFY_METADATA: Final = "_quantization_metadata"
QUANTIZATION_CONFIG: Final = "quantization_config"

_DOWN: Final = (".lora_down.weight", ".lora_A.weight", ".lora.down.weight", ".lora_A.default.weight")
"""The endings of keys of a LoRA's down projections, whose first dimension is the rank: kohya's, PEFT's, older diffusers'."""


def _stored(entries: Mapping[str, Entry], descriptor: int, start: int) -> StoredTensors:
    found = StoredTensors()
    for key, entry in entries.items():
        dtype = _DTYPES.get(entry.dtype, (entry.dtype.lower(), 0))[0]
        found.add(key, StoredTensor(dtype, entry.shape, descriptor, start + entry.data_offsets[0]))
    return found


def _entries(descriptor: int, length: int) -> dict[str, Entry]:
    """The tensors listed in a header of this length. Querying safetensors tensor by tensor takes twice as long."""
    try:
        return decoded_entries(os.pread(descriptor, length, _LENGTH.size))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UnreadableError("its header changed while it was read", unfinished=True) from error


def _checked_length(beginning: bytes, size_bytes: int) -> int:
    """The header's length. Raises UnreadableError for an implausible one, before any memory is allocated for it."""
    if size_bytes == 0:
        raise UnreadableError("empty file", unfinished=True)
    if size_bytes < _LENGTH.size or len(beginning) < _LENGTH.size:
        raise UnreadableError(f"too short to be a safetensors file ({size_bytes} bytes)", unfinished=True)
    (length,) = _LENGTH.unpack_from(beginning)
    if length > MAX_HEADER_BYTES:
        if length <= size_bytes - _LENGTH.size and beginning[_LENGTH.size : _LENGTH.size + 1] == b"{":
            raise UnreadableError(f"its header is too long: {length:,} bytes, where the format allows {MAX_HEADER_BYTES:,}")
        # A file that is still being written begins with zeros if its space was preallocated, never with such a number.
        raise UnreadableError(f"not a safetensors file, or damaged: its header would be {length} bytes long")
    if length > size_bytes - _LENGTH.size:
        raise UnreadableError(
            f"truncated: its header takes {length} bytes, but the file has only {format_bytes(size_bytes)}", unfinished=True
        )
    return int(length)


def _short_reason(error: SafetensorError) -> str:
    """safetensors' error message without the prefix that all of them have."""
    message = str(error).removeprefix("Error while deserializing header: ")
    if "incomplete metadata" in message or "MetadataIncompleteBuffer" in message:
        return NOT_COVERED
    first = message.splitlines()[0] if message else type(error).__name__
    return os.fsencode(first).decode(errors="backslashreplace")[:MAX_REASON_CHARACTERS]
