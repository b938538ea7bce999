"""Since when nothing was allocated on any accelerator: what a model computes there is allocated there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gpumodels.models.allocators import DeviceCounters
from gpumodels.support.never_pickled import never_pickled
from gpumodels.use.cuda_graphs import CudaGraphs

KIND: Final = "cuda"
"""Only of this kind is it known whether graphs were made. ROCm's devices are of it, too."""


@never_pickled
class DeviceRest:
    """Compares the counts at each tick. Where there may be a graph, nothing is known: replaying it allocates nothing."""

    def __init__(self, graphs: CudaGraphs) -> None:
        self._graphs = graphs
        self._counts: Mapping[str, int | None] = {}
        self.since_ns: int | None = None
        """The first tick with these counts, realtime nanoseconds; None if that isn't known."""

    def update(self, counters: Mapping[str, DeviceCounters], now_ns: int) -> None:
        """Take the counts.

        Args:
            counters: by device, what the allocators count.
            now_ns: realtime nanoseconds.
        """
        before, self._counts = self._counts, {device: counted.allocation_count for device, counted in counters.items()}
        if self._graphs.may_exist or not self._counts or not all(map(_is_counted, self._counts.items())):
            self.since_ns = None
        elif self.since_ns is None or self._counts != before:
            self.since_ns = now_ns


def _is_counted(counted: tuple[str, int | None]) -> bool:
    device, count = counted
    return bool(count) and device.partition(":")[0] == KIND
