"""Divides a device's used memory into parts: the largest models, optimizer, caches and so on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Final

from msgspec import Struct

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


OF_MODELS: Final = (PartKind.FIRST_MODEL, PartKind.SECOND_MODEL, PartKind.THIRD_MODEL, PartKind.MODELS)


class MemoryPart(Struct, frozen=True):
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
    ranked = sorted(((size, key) for key, size in models if size > 0), key=lambda pair: (-pair[0], pair[1]))
    sizes: dict[PartKind, int] = {}
    keys: dict[PartKind, str] = {}
    for kind, (size, key) in zip(OF_MODELS, ranked[:TOP_MODELS], strict=False):
        sizes[kind], keys[kind] = size, key
    sizes[PartKind.MODELS] = sum(size for size, _ in ranked[TOP_MODELS:])
    sizes[PartKind.GRADIENTS] = sum(memory.gradients_bytes or 0 for memory in memories)
    sizes[PartKind.OPTIMIZER] = sum(memory.optimizer_bytes or 0 for memory in memories)
    sizes[PartKind.CACHES] = sum(memory.cache_bytes or 0 for memory in memories)
    sizes[PartKind.OTHER] = sum(map(_other, memories))
    sizes[PartKind.ALLOCATOR_CACHE] = sum(map(_allocator_cache, memories))
    sizes[PartKind.OUTSIDE] = (used_bytes or 0) - sum(sizes.values())
    return tuple(MemoryPart(kind, sizes[kind], keys.get(kind, "")) for kind in PartKind if sizes.get(kind, 0) > 0)


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
