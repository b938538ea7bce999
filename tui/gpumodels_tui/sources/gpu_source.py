"""The interface of all readers of GPUs."""

from __future__ import annotations

from typing import Protocol

from gpumodels_tui.sources.gpu_reading import GpuReading


class GpuSource(Protocol):
    """One vendor's GPUs, read from one place."""

    def read(self, host_total_bytes: int | None) -> tuple[tuple[GpuReading, ...], tuple[str, ...]]:
        """The GPUs, each followed by its slices, and what is wrong with them or with their driver, a sentence each.

        Args:
            host_total_bytes: The machine's memory, for GPUs that have none of their own.
        """
        ...

    def close(self) -> None:
        """Let go of the driver; a later reading takes it again."""
        ...
