"""One GPU, or one slice of it, as the driver reports it; what it doesn't report, or can't mean, is None."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gpumodels_shared.records import Record, field, replace
from gpumodels_tui.sources.figures import MOST_MILLIWATTS, MOST_PERCENT, figure, total_and_used
from gpumodels_tui.sources.nvml_calls import NvmlCalls

PROCESS_CALLS: Final = ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses")

UNNAMED: Final = "GPU"

NVIDIA: Final = "nvidia"
AMD: Final = "amd"
INTEL: Final = "intel"

MOST_SLICES: Final = 64
"""A GPU has at most seven slices today; a driver in trouble may say any number."""


class GpuReading(Record):
    """One GPU, or one slice (MIG device) of one, at one moment; values that the driver doesn't report are None."""

    index: int
    """NVML's index, in PCI bus order; of a slice, its number on its GPU. Other vendors' GPUs are numbered after NVML's."""
    uuid: str
    """Empty for a GPU that has been lost since before it was first read. `pci:<address>` for one that has no UUID."""
    name: str
    """`UNNAMED` if it isn't known."""
    total_bytes: int | None = None
    used_bytes: int | None = None
    utilization_percent: int | None = None
    temperature_celsius: int | None = None
    power_watts: float | None = None
    processes: Mapping[int, int | None] = field(default_factory=dict)
    """Bytes by pid, as the driver counts them; None if it doesn't report them."""
    nameless: Mapping[int, int | None] = field(default_factory=dict)
    """The same for numbers that name nobody here: in a container, the machine's own pids."""
    lost: str | None = None
    """Why it can't be asked now, in the driver's words: it fell off the bus, is being reset, its driver is gone. Its name, its
    memory in all, and which processes are on it are as they were last read; nothing else is known."""
    lost_at_ns: int = 0
    """When it was first found to be lost, realtime nanoseconds; 0 if it never answered."""
    shares_host_memory: bool = False
    """It has no memory of its own: its total is the machine's, and used is what the driver counts of its processes."""
    parent: str | None = None
    """Of a slice: the UUID of its GPU."""
    parent_index: int | None = None
    is_divided: bool = False
    """Whether it is in MIG mode, in which processes are on its slices only."""
    vendor: str = NVIDIA
    pci_address: str | None = None
    """`0000:03:00.0`, where it is known."""
    runtime_index: int | None = None
    """Of a GPU that NVML doesn't list: its number in its vendor's runtime where no devices are chosen. None if it isn't known."""

    @property
    def key(self) -> str:
        """Tells it from all others, also where its UUID isn't known."""
        return self.uuid or f"#{self.index}"


def lost_reading(known: GpuReading, reason: str, now_ns: int) -> GpuReading:
    """What is left to say of a GPU that can't be asked any more.

    Args:
        known: How it was last read, lost or not.
        reason: In the driver's words.
        now_ns: When it is lost if it wasn't before, realtime nanoseconds; 0 for one that was never read.
    """
    return GpuReading(
        known.index,
        known.uuid,
        known.name,
        known.total_bytes,
        processes=dict.fromkeys(known.processes),
        lost=reason,
        lost_at_ns=now_ns if known.lost is None else known.lost_at_ns,
        shares_host_memory=known.shares_host_memory,
        parent=known.parent,
        parent_index=known.parent_index,
        is_divided=known.is_divided,
    )


def read_gpu(calls: NvmlCalls, index: int, host_total_bytes: int | None) -> tuple[GpuReading, ...]:
    """One GPU and its slices; empty if it has no UUID. Each value is asked on its own, since drivers refuse some on some GPUs.

    Where it is lost, `calls.lost` says why. One that we may not see, as in a job that was given others, is not lost.
    """
    calls.lost = calls.trouble = None
    handle = calls.structure("nvmlDeviceGetHandleByIndex", index)
    uuid = calls.text("nvmlDeviceGetUUID", handle) if handle is not None else None
    if uuid is None:
        if not calls.is_not_for_us:
            calls.lost = calls.lost or calls.refusal
        return ()
    slices = _slices(calls, handle, index, uuid)
    gpu = _read(calls, handle, GpuReading(index, uuid, UNNAMED, is_divided=slices is not None), host_total_bytes)
    if _is_blank(gpu):
        calls.lost = calls.lost or calls.trouble
    if slices:  # the driver lists the processes of slices with their GPU, too
        on_slices = {pid for part in slices for pid in part.processes}
        gpu = replace(gpu, processes={pid: used for pid, used in gpu.processes.items() if pid not in on_slices})
    return (gpu, *(slices or ()))


def _read(calls: NvmlCalls, handle: object, known: GpuReading, host_total_bytes: int | None) -> GpuReading:
    """All values of a GPU or of a slice, for what it is `known` to be."""
    memory = calls.memory(handle)
    total, used = total_and_used(getattr(memory, "total", None), getattr(memory, "used", None))
    # NVML has no memory figures for GPUs that use the machine's memory; a slice's belong to its GPU.
    shares = calls.is_unsupported and calls.lost is None and known.parent is None and not known.is_divided
    utilization = calls.structure("nvmlDeviceGetUtilizationRates", handle)
    milliwatts = calls.number("nvmlDeviceGetPowerUsage", MOST_MILLIWATTS, handle)
    name = calls.name(known.uuid, handle) or known.name
    temperature = calls.temperature(handle)
    held = _processes(calls, handle)
    if shares:
        total, used = total_and_used(host_total_bytes, _sum(held))
    return GpuReading(
        index=known.index,
        uuid=known.uuid,
        name=name,
        total_bytes=total,
        used_bytes=used,
        utilization_percent=figure(getattr(utilization, "gpu", None), MOST_PERCENT),
        temperature_celsius=temperature,
        power_watts=None if milliwatts is None else milliwatts / 1000,
        processes={
            pid: None if count is not None and total is not None and count > total else count
            for pid, count in (held or {}).items()
        },
        shares_host_memory=shares,
        parent=known.parent,
        parent_index=known.parent_index,
        is_divided=known.is_divided,
    )


def _is_blank(gpu: GpuReading) -> bool:
    """Whether nothing was told of it but that it is there."""
    return not gpu.processes and (
        gpu.total_bytes,
        gpu.utilization_percent,
        gpu.temperature_celsius,
        gpu.power_watts,
    ) == (None, None, None, None)


def _slices(calls: NvmlCalls, handle: object, index: int, uuid: str) -> tuple[GpuReading, ...] | None:
    """The slices of a GPU in MIG mode; None for a GPU that isn't."""
    mode = calls.mig_mode(uuid, handle)
    current = mode[0] if isinstance(mode, (list, tuple)) and mode else mode
    if current != 1:
        return None
    count = figure(calls.optional("nvmlDeviceGetMaxMigDeviceCount", handle), MOST_SLICES) or 0
    found: list[GpuReading] = []
    for number in range(count):
        part = calls.optional("nvmlDeviceGetMigDeviceHandleByIndex", handle, number)
        part_uuid = calls.text("nvmlDeviceGetUUID", part) if part is not None else None
        if part_uuid is not None:
            found.append(_read(calls, part, GpuReading(number, part_uuid, "MIG", parent=uuid, parent_index=index), None))
    return tuple(found)


def _sum(held: Mapping[int, int | None] | None) -> int | None:
    """All bytes; None if those of one process aren't known."""
    known = [count for count in held.values() if count is not None] if held is not None else []
    return sum(known) if held is not None and len(known) == len(held) else None


def _processes(calls: NvmlCalls, handle: object) -> dict[int, int | None] | None:
    """Bytes by pid; None if they can't be told. NVML lists a process that both computes and draws twice, with the same bytes."""
    found: dict[int, int | None] = {}
    is_known = False
    for function in PROCESS_CALLS:
        listed = calls.processes(function, handle)
        is_known = is_known or listed is not None
        for pid, used in listed or ():
            known = found.get(pid)
            found[pid] = used if known is None else known if used is None else max(known, used)
    return found if is_known else None
