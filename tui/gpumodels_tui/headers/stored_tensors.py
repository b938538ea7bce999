"""Single values out of model files, by plain reads of their bytes. Runs in the worker process."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from gpumodels_shared.floats import ITEM_BYTES

MAX_SHAPES: Final = 512
"""Distinct shapes that a header's summary holds; of a file with more it says nothing."""

MAX_DIMENSIONS: Final = 8


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where one tensor's elements stand."""

    dtype: str
    shape: tuple[int, ...]
    descriptor: int
    offset: int
    """Of its first element, from the file's beginning."""


@dataclass(slots=True)
class StoredTensors:
    """The tensors of one file, or of the shards of one model, as `fingerprint.FileValues` wants them."""

    stored: dict[str, StoredTensor] = field(default_factory=dict)
    tensors: dict[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)

    def add(self, key: str, tensor: StoredTensor) -> None:
        """One more tensor."""
        self.stored[key] = tensor
        self.tensors[key] = (tensor.dtype, tensor.shape)

    def add_all(self, others: StoredTensors) -> None:
        """Another shard's."""
        self.stored.update(others.stored)
        self.tensors.update(others.tensors)

    def read(self, key: str, start: int, count: int) -> bytes:
        """So many elements from this one on, raw; empty where they can't be had."""
        tensor = self.stored[key]
        size = ITEM_BYTES.get(tensor.dtype)
        if size is None or start + count > math.prod(tensor.shape):
            return b""
        try:
            return os.pread(tensor.descriptor, count * size, tensor.offset + start * size)
        except OverflowError:
            return b""  # where no file goes on


def packed_shapes(tensors: Iterable[tuple[str, tuple[int, ...]]]) -> bytes:
    """The distinct shapes of the tensors (dtype, shape) that can be compared; empty where there are too many, or none."""
    shapes: set[tuple[int, ...]] = set()
    for dtype, shape in tensors:
        if dtype in ITEM_BYTES and len(shape) <= MAX_DIMENSIONS:
            shapes.add(shape)
            if len(shapes) > MAX_SHAPES:
                return b""
    return msgspec.msgpack.encode(sorted(shapes)) if shapes else b""


def unpacked_shapes(packed: bytes) -> frozenset[tuple[int, ...]]:
    """What `packed_shapes` packed."""
    return frozenset(_SHAPES.decode(packed)) if packed else frozenset()


_SHAPES: Final = msgspec.msgpack.Decoder(tuple[tuple[int, ...], ...])


def dtype_bytes(tensors: Iterable[tuple[str, int]]) -> Mapping[str, int]:
    """Bytes by dtype, most first, of (dtype, bytes)."""
    sums: dict[str, int] = {}
    for dtype, size in tensors:
        sums[dtype] = sums.get(dtype, 0) + size
    return dict(sorted(sums.items(), key=lambda entry: -entry[1]))
