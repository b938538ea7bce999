"""Which kinds of accelerators there are to look at, by torch's names for them."""

from __future__ import annotations

from collections.abc import Collection
from types import ModuleType
from typing import Any, Final

from gpumodels.support.torch_private import private_backend

ACCELERATORS: Final = ("cuda", "xpu")
"""torch modules whose allocators answer from host memory, and only once the host has initialised them. ROCm is torch's `cuda`."""

COUNTED: Final = (*ACCELERATORS, "mtia", "hpu", "npu")
"""These and others whose modules have `memory_stats`. Huawei's and Habana's are there once their packages are imported."""

ASKING_THE_DRIVER: Final = frozenset({"cudaMallocAsync"})
"""Allocators of CUDA that keep no counters of their own: each question would be one to the driver, so that they are not asked."""

APPLE: Final = "mps"
"""Torch's module for it doesn't say whether it was initialised, and asking it initialises it."""


def accelerators(torch: ModuleType) -> tuple[str, ...]:
    """These, and the backend that somebody has added to this torch, if there is one by now."""
    return _with_added(torch, ACCELERATORS)


def counted_accelerators(torch: ModuleType) -> tuple[str, ...]:
    """The same for all whose counters may be read."""
    return _with_added(torch, COUNTED)


def _with_added(torch: ModuleType, known: tuple[str, ...]) -> tuple[str, ...]:
    added = private_backend(torch)
    return known if added is None or added in known else (*known, added)


def initialised_module(torch: ModuleType, kind: str) -> Any:
    """Torch's module for this kind if the host has initialised it; None else. Nothing is imported, and no driver asked."""
    module = getattr(torch, kind, None)
    if module is None or not hasattr(module, "memory_stats") or not hasattr(module, "is_initialized"):
        return None
    return module if module.is_initialized() else None


def apple_module(torch: ModuleType, in_use: Collection[str]) -> Any:
    """Torch's module for Apple's GPUs if a tensor is there, so that it is initialised; None else."""
    return getattr(torch, APPLE, None) if any(device.partition(":")[0] == APPLE for device in in_use) else None


def platform_of(torch: ModuleType) -> str | None:
    """Whose devices this torch calls `cuda`: `cuda` or `hip`; None if it has neither."""
    version = getattr(torch, "version", None)
    for name in ("hip", "cuda"):
        if type(getattr(version, name, None)) is str:
            return name
    return None
