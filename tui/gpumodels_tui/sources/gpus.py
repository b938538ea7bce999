"""The devices as drivers and the kernel report them: NVML's GPUs, those that sysfs tells of, and host memory."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from gpumodels_shared.pid_namespaces import sees_all_pids
from gpumodels_shared.records import Record, field, replace
from gpumodels_tui.outside.facts import NOTHING, OutsideFacts
from gpumodels_tui.sources.amd_gpus import AmdGpus
from gpumodels_tui.sources.figures import MOST_PID
from gpumodels_tui.sources.gpu_reading import NVIDIA, GpuReading
from gpumodels_tui.sources.gpu_source import GpuSource
from gpumodels_tui.sources.intel_gpus import IntelGpus
from gpumodels_tui.sources.jetson_gpus import JetsonGpus
from gpumodels_tui.sources.kernel_files import KernelFiles
from gpumodels_tui.sources.nvml_gpus import NvmlGpus

MEMINFO_BYTES: Final = 256
"""Enough for the lines of /proc/meminfo up to MemAvailable, which is the third since Linux 3.14."""

HOST_STEP_BYTES: Final = 32 * 1024**2
"""Used host memory is rounded down to this: it changes all the time, and nobody needs it in finer steps."""


class GpuProcess(Record):
    """A process on a GPU, as the kernel describes it."""

    pid: int
    command: tuple[str, ...]
    user: str | None
    started_at_ns: int
    outside: OutsideFacts = NOTHING
    """What is known of its models from outside, where it has no sidecar."""


class HardwareState(Record):
    """All devices at one moment."""

    gpus: tuple[GpuReading, ...] = ()
    host_total_bytes: int | None = None
    host_used_bytes: int | None = None
    problems: tuple[str, ...] = ()
    """A sentence each: why NVML reports nothing although a driver is installed, which GPUs are lost. A machine without a driver
    has no problem."""
    running: Mapping[int, GpuProcess] = field(default_factory=dict)
    """The processes on the GPUs by pid, as far as the kernel lets us see them."""
    pids_are_ours: bool = True
    """Whether the driver's pids are those of this PID namespace; in a container they name nobody."""

    @property
    def problem(self) -> str | None:
        """All problems in one line; None if there is none."""
        return " ".join(self.problems) or None


def host_memory_only() -> HardwareState:
    """Host memory only, for the first screen: the GPU driver may take seconds to start."""
    total, available = _host_memory()
    return HardwareState((), total, (total - available) // HOST_STEP_BYTES * HOST_STEP_BYTES)


class Hardware:
    """Reads the devices. NVML is loaded at the first reading; without its library no NVIDIA GPUs are reported."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, files: KernelFiles | None = None) -> None:
        files = files or KernelFiles()
        self._nvml = NvmlGpus(clock)
        self._jetson = JetsonGpus(files)
        self._others: tuple[GpuSource, ...] = (AmdGpus(files, clock), IntelGpus(files, clock))
        """Those that name processes by this PID namespace's numbers."""
        self._running: dict[int, GpuProcess | None] = {}

    def read(self) -> HardwareState:
        """Read all devices. Values that the driver refuses are None; a GPU that is lost keeps its row."""
        host = host_memory_only()
        read, problems = self._read_all(host.host_total_bytes)
        gpus = tuple(self._without_ended(gpu) if gpu.lost is not None else gpu for gpu in map(_without_strangers, read))
        return replace(host, gpus=gpus, problems=problems, running=self.processes_on(gpus), pids_are_ours=sees_all_pids())

    def _read_all(self, host_total_bytes: int | None) -> tuple[list[GpuReading], tuple[str, ...]]:
        """All GPUs, each with an index of its own, and all problems."""
        gpus, problems = self._nvml.read(host_total_bytes)
        if not gpus:
            gpus, more = self._jetson.read(host_total_bytes)
            problems += more
        found = list(gpus)
        for source in self._others:
            first = 1 + max((gpu.index for gpu in found if gpu.parent is None), default=-1)
            others, more = source.read(host_total_bytes)
            found += [replace(gpu, index=first + gpu.index) for gpu in others]
            problems += more
        return found, problems

    def processes_on(self, gpus: Iterable[GpuReading]) -> dict[int, GpuProcess]:
        """The processes on these GPUs. Each pid is looked up once, for as long as the driver keeps reporting it."""
        pids = {pid for gpu in gpus for pid in gpu.processes}
        self._running = {pid: self._running[pid] if pid in self._running else _process_of(pid) for pid in pids}
        return {pid: process for pid, process in self._running.items() if process is not None}

    def _without_ended(self, gpu: GpuReading) -> GpuReading:
        """A lost GPU with those of its last known processes that still run."""
        still = [pid for pid in gpu.processes if (known := self._running.get(pid)) is not None and _process_of(pid) == known]
        return replace(gpu, processes=dict.fromkeys(still), nameless={})

    def close(self) -> None:
        """Shut NVML down; a later reading starts it again."""
        sources: tuple[GpuSource, ...] = (self._nvml, self._jetson, *self._others)
        for source in sources:
            source.close()


def _without_strangers(gpu: GpuReading) -> GpuReading:
    """The GPU with the processes that its driver's numbers name in this PID namespace; the others are nameless."""
    if gpu.vendor != NVIDIA:  # the kernel tells of this namespace's processes
        return gpu
    named = {pid: used for pid, used in gpu.processes.items() if 0 < pid <= MOST_PID} if sees_all_pids() else {}
    if len(named) == len(gpu.processes):
        return gpu
    return replace(gpu, processes=named, nameless={pid: used for pid, used in gpu.processes.items() if pid not in named})


def _host_memory() -> tuple[int, int]:
    """Total bytes, and bytes available without swapping; from /proc/meminfo if there is one.

    Importing psutil takes four milliseconds, which would delay the first screen.
    """
    with contextlib.suppress(OSError, ValueError):
        descriptor = os.open("/proc/meminfo", os.O_RDONLY | os.O_CLOEXEC)
        try:
            lines = os.read(descriptor, MEMINFO_BYTES)
        finally:
            os.close(descriptor)
        return _kibibytes(lines, b"MemTotal:") * 1024, _kibibytes(lines, b"MemAvailable:") * 1024
    import psutil

    memory = psutil.virtual_memory()
    return int(memory.total), int(memory.available)


def _kibibytes(lines: bytes, name: bytes) -> int:
    """The figure of this line.

    Raises:
        ValueError: there is none.
    """
    begin = lines.index(name) + len(name)
    return int(lines[begin : lines.index(b"kB", begin)])


def _process_of(pid: int) -> GpuProcess | None:
    """The process; None if it has exited, is in another namespace, or may not be seen by us."""
    import psutil  # only when there is a process to describe

    try:
        process = psutil.Process(pid)
        command = tuple(process.cmdline()) or (process.name(),)
        user = None
        with contextlib.suppress(psutil.Error, KeyError):
            user = process.username()
        return GpuProcess(pid, command, user, int(process.create_time() * 1e9))
    except (psutil.Error, OverflowError, ValueError):  # the latter two for numbers that can't be a pid
        return None
