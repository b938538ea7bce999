"""Small safetensors files, good and broken, byte by byte: no library that a test is about helps to make them."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final

BITS: Final = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "U8": 8, "I8": 8, "F8_E4M3": 8, "F4": 4}


def safetensors_bytes(
    tensors: Mapping[str, tuple[str, tuple[int, ...]]] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """A whole file: tensors by name as (dtype code, shape), all zeros."""
    header: dict[str, object] = {} if metadata is None else {"__metadata__": dict(metadata)}
    offset = 0
    for name, (dtype, shape) in ({"weight": ("F32", (2, 2))} if tensors is None else tensors).items():
        end = offset + math.prod(shape) * BITS[dtype] // 8
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    return framed(json.dumps(header).encode(), offset)


def framed(header: bytes, data_bytes: int = 0) -> bytes:
    """A header, whatever it is, with its length before it and zeros after it."""
    return struct.pack("<Q", len(header)) + header + bytes(data_bytes)


def write_model(
    path: Path,
    tensors: Mapping[str, tuple[str, tuple[int, ...]]] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """A good file at this path, its directories made; the path as it will be known."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(safetensors_bytes(tensors, metadata))
    return path


def titled(path: Path, title: str) -> Path:
    """A good file whose metadata carry a title."""
    return write_model(path, metadata={"modelspec.title": title})


BROKEN: Final[Mapping[str, tuple[bytes, str]]] = {
    "empty": (b"", "empty file"),
    "five bytes": (b"\x08\0\0\0\0", "too short"),
    "length of 2^63": (struct.pack("<Q", 2**63) + b"{}", "not a safetensors file, or damaged"),
    "garbage": (b"this is no model file, whatever its name says", "not a safetensors file, or damaged"),
    "header cut off": (safetensors_bytes()[:40], "truncated: its header takes"),
    "tensors cut off": (safetensors_bytes()[:-4], "truncated, or damaged"),
    "zeros": (bytes(4096), "invalid JSON"),
    "not JSON": (framed(b'{"weight": {"dtype"}'), "invalid JSON"),
    "a JSON list": (framed(b"[1, 2, 3]"), "invalid JSON"),
    "invalid UTF-8": (framed(b'{"__metadata__": {"title": "\xff\xfe"}}'), "invalid UTF-8"),
    "unknown dtype": (framed(b'{"w": {"dtype": "F128", "shape": [1], "data_offsets": [0, 16]}}', 16), "invalid JSON"),
    "metadata of numbers": (framed(b'{"__metadata__": {"steps": 3}}'), "invalid JSON"),
    "deeply nested": (framed(b'{"a":' * 100_000), "invalid JSON"),
}
"""Bytes by what is wrong with them, and what the reason for skipping them says."""
