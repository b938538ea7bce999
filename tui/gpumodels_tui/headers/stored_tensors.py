"""Reads single values from model files by reading their bytes directly. Runs in the worker process."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from gpumodels_shared.floats import ITEM_BYTES

MAX_SHAPES: Final = 512
"""The most distinct shapes that a header's summary holds; for a file with more, the summary is empty."""

MAX_DIMENSIONS: Final = 8


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """The position of one tensor's elements in its file."""

    dtype: str
    shape: tuple[int, ...]
    descriptor: int
    offset: int
    """Bytes from the beginning of the file to the first element."""


@dataclass(slots=True)
class StoredTensors:
    """The tensors of one file, or of all shards of one model; implements `fingerprint.FileValues`."""

    stored: dict[str, StoredTensor] = field(default_factory=dict)
    tensors: dict[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)

    def add(self, key: str, tensor: StoredTensor) -> None:
        """Add one tensor under its key."""
        self.stored[key] = tensor
        self.tensors[key] = (tensor.dtype, tensor.shape)

    def add_all(self, others: StoredTensors) -> None:
        """Add the tensors of another shard."""
        self.stored.update(others.stored)
        self.tensors.update(others.tensors)

    def read(self, key: str, start: int, count: int) -> bytes:
        """The raw bytes of `count` elements from number `start` on; empty if they can't be read."""
        tensor = self.stored[key]
        size = ITEM_BYTES.get(tensor.dtype)
        if size is None or start + count > math.prod(tensor.shape):
            return b""
        try:
            return os.pread(tensor.descriptor, count * size, tensor.offset + start * size)
        except OverflowError:
            return b""  # an offset larger than any file


def packed_shapes(tensors: Iterable[tuple[str, tuple[int, ...]]]) -> bytes:
    """Pack the distinct shapes of those tensors (dtype, shape) that can be compared; empty if there are none or too many."""
    shapes: set[tuple[int, ...]] = set()
    for dtype, shape in tensors:
        if dtype in ITEM_BYTES and len(shape) <= MAX_DIMENSIONS:
            shapes.add(shape)
            if len(shapes) > MAX_SHAPES:
                return b""
    return msgspec.msgpack.encode(sorted(shapes)) if shapes else b""


def unpacked_shapes(packed: bytes) -> frozenset[tuple[int, ...]]:
    """The shapes that `packed_shapes` packed."""
    return frozenset(_SHAPES.decode(packed)) if packed else frozenset()


_SHAPES: Final = msgspec.msgpack.Decoder(tuple[tuple[int, ...], ...])


def dtype_bytes(tensors: Iterable[tuple[str, int]]) -> Mapping[str, int]:
    """Sum up pairs of dtype and bytes: bytes by dtype, the largest first."""
    sums: dict[str, int] = {}
    for dtype, size in tensors:
        sums[dtype] = sums.get(dtype, 0) + size
    return dict(sorted(sums.items(), key=lambda entry: -entry[1]))
