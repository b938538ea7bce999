"""Where a device's memory went: parts, largest model first, that sum up to what is used."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Final

from msgspec import Struct

from gpumodels_shared.schema import DeviceMemory

TOP_MODELS: Final = 3
"""So many are parts of their own; the others are one."""


class PartKind(Enum):
    """What a part of the memory is; the values are how people call it, and each has its own mark in a bar."""

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
    """The driver's own, CUDA contexts, libraries, and processes without a sidecar."""


OF_MODELS: Final = (PartKind.FIRST_MODEL, PartKind.SECOND_MODEL, PartKind.THIRD_MODEL, PartKind.MODELS)


class MemoryPart(Struct, frozen=True):
    """One part of a device's memory."""

    kind: PartKind
    size_bytes: int
    key: str = ""
    """Of a part that is one model: `ModelRow.key`."""


def memory_parts(
    models: Iterable[tuple[str, int]], memories: Sequence[DeviceMemory], used_bytes: int | None
) -> tuple[MemoryPart, ...]:
    """The parts in the order of `PartKind`; empty ones are left out.

    Args:
        models: Key and bytes on the device of each model that is in memory now.
        memories: The device as the allocators of those processes see it.
        used_bytes: As the driver counts; what no allocator knows of is outside torch. None where nobody says.
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
    """Live tensors that nothing else explains."""
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
