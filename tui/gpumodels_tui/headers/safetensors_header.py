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

from gpumodels_shared.units import format_bytes
from gpumodels_tui.headers.headers import FileHeader, UnreadableError
from gpumodels_tui.headers.metadata import travelling_metadata
from gpumodels_tui.headers.stored_tensors import StoredTensor, StoredTensors, dtype_bytes, packed_shapes

_LENGTH: Final = struct.Struct("<Q")

MAX_HEADER_BYTES: Final = 12 * 1024 * 1024
"""40,000 tensors take 5 MB. safetensors itself allows 100 MB, which can need gigabytes of memory to parse."""

MAX_REASON_CHARACTERS: Final = 200

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
    try:
        with safe_open(path, framework="numpy") as file:  # it validates the header
            metadata = travelling_metadata(file.metadata() or {})
    except SafetensorError as error:
        raise UnreadableError(_short_reason(error), unfinished=True) from error
    entries = _entries(descriptor, length)
    counts = Counter((entry.dtype, entry.shape) for entry in entries.values())
    distinct = [(*_DTYPES.get(code, (code.lower(), 0)), shape, count) for (code, shape), count in counts.items()]
    header = FileHeader(
        "safetensors",
        metadata,
        len(entries),
        dtype_bytes((dtype, math.prod(shape) * bits // 8 * count) for dtype, bits, shape, count in distinct),
        packed_shapes((dtype, shape) for dtype, _, shape, _ in distinct),
        rank=_rank(entries),
    )
    return header, lambda: _stored(entries, descriptor, _LENGTH.size + length)


_DOWN: Final = (".lora_down.weight", ".lora_A.weight", ".lora.down.weight", ".lora_A.default.weight")
"""The endings of keys of a LoRA's down projections, whose first dimension is the rank: kohya's, PEFT's, older diffusers'."""


def _rank(entries: Mapping[str, _Entry]) -> int | None:
    """A LoRA's rank, if it is the same in all of its tensors."""
    ranks = {entry.shape[0] for key, entry in entries.items() if key.endswith(_DOWN) and entry.shape}
    return ranks.pop() if len(ranks) == 1 else None


class _Entry(msgspec.Struct, gc=False):
    """One tensor's entry in the header."""

    dtype: str = ""
    shape: tuple[int, ...] = ()
    data_offsets: tuple[int, int] = (0, 0)


def _stored(entries: Mapping[str, _Entry], descriptor: int, start: int) -> StoredTensors:
    found = StoredTensors()
    for key, entry in entries.items():
        dtype = _DTYPES.get(entry.dtype, (entry.dtype.lower(), 0))[0]
        found.add(key, StoredTensor(dtype, entry.shape, descriptor, start + entry.data_offsets[0]))
    return found


_METADATA: Final = "__metadata__"
_ALL_ENTRIES: Final = msgspec.json.Decoder(dict[str, _Entry])
"""Decodes the metadata as an empty entry, unless they use the name of an entry's field."""
_HEADER: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ENTRY: Final = msgspec.json.Decoder(_Entry)


def _entries(descriptor: int, length: int) -> dict[str, _Entry]:
    """The tensors listed in a header of this length. Querying safetensors tensor by tensor takes twice as long."""
    try:
        header = os.pread(descriptor, length, _LENGTH.size)
        try:
            entries = _ALL_ENTRIES.decode(header)
        except msgspec.ValidationError:
            return {key: _ENTRY.decode(raw) for key, raw in _HEADER.decode(header).items() if key != _METADATA}
        entries.pop(_METADATA, None)
        return entries
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
        return "truncated, or damaged: its tensors don't cover the file exactly"
    first = message.splitlines()[0] if message else type(error).__name__
    return os.fsencode(first).decode(errors="backslashreplace")[:MAX_REASON_CHARACTERS]
