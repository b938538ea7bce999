"""Headers of safetensors files, through safetensors itself. Runs in the worker process: numpy comes with it.

Layout (https://github.com/huggingface/safetensors#format): u64 little-endian header length, the header in JSON, the tensors.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping
from typing import Final

import msgspec
from safetensors import SafetensorError, safe_open

from gpumodels_shared.units import format_bytes
from gpumodels_tui.catalogue.headers import FileHeader, UnreadableError
from gpumodels_tui.catalogue.metadata import travelling_metadata
from gpumodels_tui.catalogue.stored_tensors import StoredTensor, StoredTensors, dtype_bytes, packed_shapes

_LENGTH: Final = struct.Struct("<Q")

MAX_HEADER_BYTES: Final = 12 * 1024 * 1024
"""40,000 tensors take 5 MB. safetensors would take 100 MB, and gigabytes of memory for what such a header may hold."""

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
"""The file's code to torch's name, where torch has one, and bits per element."""


def recognises(beginning: bytes, size_bytes: int) -> bool:
    """Whether a file without a telling name begins like one: a length that fits, and JSON after it."""
    if len(beginning) < _LENGTH.size + 1:
        return False
    (length,) = _LENGTH.unpack_from(beginning)
    return 2 <= length <= min(MAX_HEADER_BYTES, size_bytes - _LENGTH.size) and beginning[_LENGTH.size : _LENGTH.size + 1] == b"{"


def read(path: str, beginning: bytes, size_bytes: int) -> FileHeader:
    """The header of a regular file of this size, which begins so.

    Raises:
        UnreadableError: it is broken, or not all there yet.
    """
    _check_length(beginning, size_bytes)
    listed: list[tuple[str, tuple[int, ...]]] = []
    sizes: list[tuple[str, int]] = []
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = travelling_metadata(file.metadata() or {})
            # No mapping: it can only be asked for its keys.
            for name in file.keys():  # noqa: SIM118
                part = file.get_slice(name)
                code, shape = str(part.get_dtype()), tuple(part.get_shape())
                dtype, bits = _DTYPES.get(code, (code.lower(), 0))
                listed.append((dtype, shape))
                sizes.append((dtype, math.prod(shape) * bits // 8))
    except SafetensorError as error:
        raise UnreadableError(_in_short(error), unfinished=True) from error
    return FileHeader("safetensors", metadata, len(listed), dtype_bytes(sizes), packed_shapes(listed))


class _Entry(msgspec.Struct):
    """One tensor in the header."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def tensors(path: str, descriptor: int, beginning: bytes, size_bytes: int) -> StoredTensors:
    """Where the values stand, of an open file whose header `read` found good.

    Raises:
        UnreadableError: it isn't good any more.
    """
    _check_length(beginning, size_bytes)
    (length,) = _LENGTH.unpack_from(beginning)
    found = StoredTensors()
    try:
        header = msgspec.json.decode(os.pread(descriptor, length, _LENGTH.size), type=dict[str, msgspec.Raw])
        header.pop("__metadata__", None)
        for key, raw in header.items():
            entry = msgspec.json.decode(raw, type=_Entry)
            dtype = _DTYPES.get(entry.dtype, (entry.dtype.lower(), 0))[0]
            start = _LENGTH.size + length + entry.data_offsets[0]
            found.add(key, StoredTensor(dtype, entry.shape, descriptor, start))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UnreadableError("its header changed while it was read", unfinished=True) from error
    return found


def _check_length(beginning: bytes, size_bytes: int) -> None:
    """Refuse what can't be read before anything is allocated for it."""
    if size_bytes == 0:
        raise UnreadableError("empty file", unfinished=True)
    if size_bytes < _LENGTH.size or len(beginning) < _LENGTH.size:
        raise UnreadableError(f"too short to be a safetensors file ({size_bytes} bytes)", unfinished=True)
    (length,) = _LENGTH.unpack_from(beginning)
    if length > MAX_HEADER_BYTES:
        # A file whose space was allocated beforehand begins with zeros, never with this.
        raise UnreadableError(f"not a safetensors file, or damaged: its header would be {length} bytes long")
    if length > size_bytes - _LENGTH.size:
        raise UnreadableError(
            f"truncated: its header takes {length} bytes, the file has {format_bytes(size_bytes)}", unfinished=True
        )


def _in_short(error: SafetensorError) -> str:
    """safetensors' own words without what they all begin with."""
    words = str(error).removeprefix("Error while deserializing header: ")
    if "incomplete metadata" in words or "MetadataIncompleteBuffer" in words:
        return "truncated, or damaged: its tensors don't cover the file exactly"
    first = words.splitlines()[0] if words else type(error).__name__
    return os.fsencode(first).decode(errors="backslashreplace")[:MAX_REASON_CHARACTERS]
