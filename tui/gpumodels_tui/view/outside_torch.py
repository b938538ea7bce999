"""What the driver counts of a process beside torch's allocator: its context, NCCL, other libraries. It doesn't say which."""

from __future__ import annotations

from collections.abc import Sequence

from gpumodels_shared.schema import DeviceMemory
from gpumodels_tui.sources.feed import ProcessState
from gpumodels_tui.sources.gpu_reading import GpuReading
from gpumodels_tui.view.device_names import Devices


def used_by(process: ProcessState, device: str, joined: Devices, gpus: Sequence[GpuReading]) -> int | None:
    """What the driver counts of this process on the GPU that it calls so; None if it doesn't tell, or it isn't known which."""
    key = joined.keys.get((process.key, device))
    gpu = next((gpu for gpu in gpus if f"gpu:{gpu.key}" == key), None)
    shares = sum(joined.keys.get((process.key, other)) == key for name, other in joined.keys if name == process.key)
    return gpu.processes.get(process.driver_pid or 0) if gpu is not None and shares == 1 else None


def outside_torch(memory: DeviceMemory, used_bytes: int | None) -> int | None:
    """The driver's figure for the process minus what torch has reserved. None if one isn't known, or if the driver counts less.

    Where it counts less, memory that torch still counts isn't there: it sleeps, or was imported from another process.
    """
    if used_bytes is None or memory.reserved_bytes is None or used_bytes < memory.reserved_bytes:
        return None
    return used_bytes - memory.reserved_bytes


def missing_from_device(memory: DeviceMemory, used_bytes: int | None) -> int:
    """What torch has reserved that the driver certainly doesn't count: it sleeps, in a way that nothing else tells."""
    if used_bytes is None or memory.reserved_bytes is None:
        return 0
    return max(0, memory.reserved_bytes - used_bytes)
