"""One accelerator's memory at a single moment, as torch's allocator counts it: read in the host's threads, so only that one's."""

from __future__ import annotations

from types import ModuleType
from typing import Any, Final, NamedTuple

from gpumodels.support.accelerators import ASKING_THE_DRIVER, accelerators, initialised_module
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.torch_private import cuda_allocator

_PREFIX: Final = "allocated_bytes.all."


@never_pickled
class AcceleratorMemory(NamedTuple):
    """What the allocator of one device counts. What it doesn't count is None."""

    device: str
    """torch's name, `cuda:0`."""
    allocated_bytes: int | None = None
    peak_bytes: int | None = None
    """The most that was ever allocated at once, since the host last reset this counter."""
    allocated_ever_bytes: int | None = None
    """The sum of all that was ever allocated, whether it was freed again or not."""


@never_pickled
class PagedMemory(NamedTuple):
    """What the host holds on a device in pages of its own, beside torch's allocator."""

    size_bytes: int | None


@never_pickled
class MainAccelerator:
    """Reads the counters of the accelerator that the process uses most. No driver call, no initialisation."""

    def __init__(self, torch: ModuleType) -> None:
        self._torch = torch
        self.device: str | None = None
        """The device that holds most, `cuda:0`; None while that isn't known."""

    def read(self) -> AcceleratorMemory | None:
        """Its memory now; None as long as the host has initialised no accelerator."""
        kind, _, index = (self.device or "").partition(":")
        for name in (kind,) if kind else accelerators(self._torch):
            module: Any = initialised_module(self._torch, name)
            if module is None:
                continue
            device = f"{name}:{index or 0}"
            if name == "cuda" and cuda_allocator(self._torch) in ASKING_THE_DRIVER:
                return AcceleratorMemory(device)
            try:
                stats = module.memory_stats(int(index or 0))
            except Exception:  # noqa: BLE001  # it has no such counters, or was shut down: that is unknown
                return AcceleratorMemory(device)
            counts = [stats.get(_PREFIX + counter) for counter in ("current", "peak", "allocated")]
            return AcceleratorMemory(device, *(None if count is None else int(count) for count in counts))
        return None


def peak_between(before: AcceleratorMemory, after: AcceleratorMemory) -> int | None:
    """The most that was allocated at any moment in between; None if the counters don't tell.

    The allocator's peak is of all time, and resetting it is for the host. It is the peak in between where it has risen since, and
    where it has not, all that was allocated in between may leave no other answer.
    """
    if before.allocated_bytes is None or after.allocated_bytes is None:
        return None
    least = max(before.allocated_bytes, after.allocated_bytes)
    if before.peak_bytes is None or after.peak_bytes is None or after.peak_bytes < before.peak_bytes:
        return None  # it was reset
    if after.peak_bytes > before.peak_bytes:
        return after.peak_bytes
    most = after.peak_bytes
    if before.allocated_ever_bytes is not None and after.allocated_ever_bytes is not None:
        most = min(most, before.allocated_bytes + after.allocated_ever_bytes - before.allocated_ever_bytes)
    return least if least == most else None
