"""Divides a device's used memory into parts: the largest models, optimizer, caches and so on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Final

from gpumodels_shared.records import Record
from gpumodels_shared.schema import DeviceMemory

TOP_MODELS: Final = 3
"""How many of the largest models are parts of their own; the others are one part together."""


class PartKind(Enum):
    """The purposes of memory; the values are shown on screen. Each kind has its own mark in a bar."""

    FIRST_MODEL = "largest model"
    SECOND_MODEL = "second model"
    THIRD_MODEL = "third model"
    MODELS = "other models"
    GRADIENTS = "gradients"
    OPTIMIZER = "optimizer"
    CACHES = "caches"
    OTHER = "other tensors"
    ALLOCATOR_CACHE = "allocator cache"
    OUTSIDE = "outside torch"
    """The driver's own memory, CUDA contexts, libraries, and processes without a sidecar."""


ALL_KINDS: Final = tuple(PartKind)
OF_MODELS: Final = (PartKind.FIRST_MODEL, PartKind.SECOND_MODEL, PartKind.THIRD_MODEL, PartKind.MODELS)


class MemoryPart(Record):
    """One part of a device's memory."""

    kind: PartKind
    size_bytes: int
    key: str = ""
    """`ModelRow.key` if the part is a single model."""


def memory_parts(
    models: Iterable[tuple[str, int]], memories: Sequence[DeviceMemory], used_bytes: int | None
) -> tuple[MemoryPart, ...]:
    """The non-empty parts, in the order of `PartKind`.

    Args:
        models: Key and bytes on the device of each model that is in memory now.
        memories: The device's memory as counted by the processes' allocators.
        used_bytes: As the driver counts; bytes that no allocator knows of are outside torch. None if unknown.
    """
    ranked = sorted(((-size, key) for key, size in models if size > 0))
    sizes = [-size for size, _ in ranked[:TOP_MODELS]]
    keys = [key for _, key in ranked[:TOP_MODELS]]
    blank = TOP_MODELS - len(ranked)
    sizes += [0] * blank
    sizes += (
        -sum(size for size, _ in ranked[TOP_MODELS:]),
        sum(memory.gradients_bytes or 0 for memory in memories),
        sum(memory.optimizer_bytes or 0 for memory in memories),
        sum(memory.cache_bytes or 0 for memory in memories),
        sum(map(_other, memories)),
        sum(map(_allocator_cache, memories)),
    )
    sizes.append((used_bytes or 0) - sum(sizes))
    keys += [""] * (len(sizes) - len(keys))
    return tuple(MemoryPart(kind, size, key) for kind, size, key in zip(ALL_KINDS, sizes, keys, strict=True) if size > 0)


def _other(memory: DeviceMemory) -> int:
    """Bytes of live tensors that belong to none of the other parts."""
    if memory.other_bytes is not None:
        return memory.other_bytes
    if memory.allocated_bytes is None:
        return 0
    explained = (memory.models_bytes, memory.gradients_bytes, memory.optimizer_bytes, memory.cache_bytes)
    return max(0, memory.allocated_bytes - sum(size or 0 for size in explained))


def _allocator_cache(memory: DeviceMemory) -> int:
    if memory.reserved_bytes is None or memory.allocated_bytes is None:
        return 0
    return max(0, memory.reserved_bytes - memory.allocated_bytes)
