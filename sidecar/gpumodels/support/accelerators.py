"""Which kinds of accelerators there are to look at, by torch's names for them."""

from __future__ import annotations

from types import ModuleType
from typing import Final

from gpumodels.support.torch_private import private_backend

ACCELERATORS: Final = ("cuda", "xpu")
"""torch modules whose allocators answer from host memory, and only once the host has initialised them. ROCm is torch's `cuda`."""


def accelerators(torch: ModuleType) -> tuple[str, ...]:
    """These, and the backend that somebody has added to this torch, if there is one by now."""
    added = private_backend(torch)
    return ACCELERATORS if added is None or added in ACCELERATORS else (*ACCELERATORS, added)
