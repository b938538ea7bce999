"""Which kinds of accelerators there are to look at, by torch's names for them."""

from __future__ import annotations

from typing import Final

ACCELERATORS: Final = ("cuda", "xpu")
"""torch modules whose allocators answer from host memory, and only once the host has initialised them. ROCm is torch's `cuda`."""
