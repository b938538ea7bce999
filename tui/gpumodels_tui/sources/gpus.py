"""The devices as the driver and the kernel report them: NVML's GPUs, and host memory."""

from __future__ import annotations

import contextlib
import importlib
import time
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Final

from msgspec import Struct, field
from msgspec.structs import replace

from gpumodels_shared.safe_text import safe_text

RETRY_SECONDS: Final = 10.0
"""How long to wait before a driver that doesn't answer is asked again."""

HOST_STEP_BYTES: Final = 32 * 1024**2
"""Used host memory is rounded down to this: it changes all the time, and nobody needs it in finer steps."""

NOT_AVAILABLE: Final = 2**63
"""NVML marks a 64-bit value as not available by numbers above this, larger than any GPU's memory."""


class GpuReading(Struct, frozen=True):
    """One GPU at one moment; values that the driver doesn't report are None."""

    index: int
    """NVML's index, in PCI bus order."""
    uuid: str
    name: str
    total_bytes: int | None = None
    used_bytes: int | None = None
    utilization_percent: int | None = None
    temperature_celsius: int | None = None
    power_watts: float | None = None
    processes: Mapping[int, int | None] = field(default_factory=dict)
    """Bytes by pid, as the driver counts them; None if it doesn't report them."""


class GpuProcess(Struct, frozen=True):
    """A process on a GPU, as the kernel describes it."""

    pid: int
    command: tuple[str, ...]
    user: str | None
    started_at_ns: int


class HardwareState(Struct, frozen=True):
    """All devices at one moment."""

    gpus: tuple[GpuReading, ...] = ()
    host_total_bytes: int | None = None
    host_used_bytes: int | None = None
    problem: str | None = None
    """Why NVML reports nothing although a driver is installed; a machine without a driver has no problem."""
    running: Mapping[int, GpuProcess] = field(default_factory=dict)
    """The processes on the GPUs by pid, as far as the kernel lets us see them."""


def host_memory_only() -> HardwareState:
    """Host memory only, for the first screen: the GPU driver may take seconds to start."""
    total, available = _host_memory()
    return HardwareState((), total, (total - available) // HOST_STEP_BYTES * HOST_STEP_BYTES)


class Hardware:
    """Reads the devices. NVML is loaded at the first reading; without its library no NVIDIA GPUs are reported."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._nvml: ModuleType | None = None
        self._missing = False
        self._problem: str | None = None
        self._retry_at = float("-inf")
        self._running: dict[int, GpuProcess | None] = {}

    def read(self) -> HardwareState:
        """Read all devices. Values that the driver refuses are None; a lost GPU keeps its row while it still reports a UUID."""
        gpus, problem = self._read_gpus()
        return replace(host_memory_only(), gpus=gpus, problem=problem, running=self.processes_on(gpus))

    def processes_on(self, gpus: Iterable[GpuReading]) -> dict[int, GpuProcess]:
        """The processes on these GPUs. Each pid is looked up once, for as long as the driver keeps reporting it."""
        pids = {pid for gpu in gpus for pid in gpu.processes}
        self._running = {pid: self._running[pid] if pid in self._running else _process_of(pid) for pid in pids}
        return {pid: process for pid, process in self._running.items() if process is not None}

    def close(self) -> None:
        """Shut NVML down; a later reading starts it again."""
        nvml, self._nvml = self._nvml, None
        if nvml is not None:
            with contextlib.suppress(nvml.NVMLError):
                nvml.nvmlShutdown()

    def _read_gpus(self) -> tuple[tuple[GpuReading, ...], str | None]:
        nvml = self._nvml or self._start()
        if nvml is None:
            return (), self._problem
        try:
            count = int(nvml.nvmlDeviceGetCount())
        except nvml.NVMLError as error:
            self.close()
            self._fail(error)
            return (), self._problem
        readings = (_read_gpu(nvml, index) for index in range(count))
        return tuple(reading for reading in readings if reading is not None), None

    def _start(self) -> ModuleType | None:
        if self._missing or self._clock() < self._retry_at:
            return None
        try:
            nvml = importlib.import_module("pynvml")
        except ImportError:
            self._missing = True
            return None
        try:
            nvml.nvmlInit()
        except nvml.NVMLError_LibraryNotFound:
            self._missing = True
            return None
        except nvml.NVMLError as error:
            self._fail(error)
            return None
        self._nvml, self._problem = nvml, None
        return nvml

    def _fail(self, error: Exception) -> None:
        self._problem = (
            f"NVML: {safe_text(str(error))}; is the NVIDIA driver loaded, and does it match its library? (see nvidia-smi)"
        )
        self._retry_at = self._clock() + RETRY_SECONDS


def _read_gpu(nvml: ModuleType, index: int) -> GpuReading | None:
    """One GPU. Each value is queried on its own, since drivers refuse some on some GPUs; None if it has no UUID."""
    handle = _query(nvml, nvml.nvmlDeviceGetHandleByIndex, index)
    uuid = _text(_query(nvml, nvml.nvmlDeviceGetUUID, handle)) if handle is not None else None
    if uuid is None:
        return None
    # Version 2 counts the driver's reserved memory separately, as nvidia-smi does.
    memory = _query(nvml, nvml.nvmlDeviceGetMemoryInfo, handle, getattr(nvml, "nvmlMemory_v2", None))
    memory = memory if memory is not None else _query(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
    utilization = _query(nvml, nvml.nvmlDeviceGetUtilizationRates, handle)
    milliwatts = _number(_query(nvml, nvml.nvmlDeviceGetPowerUsage, handle))
    return GpuReading(
        index=index,
        uuid=uuid,
        name=_text(_query(nvml, nvml.nvmlDeviceGetName, handle)) or "GPU",
        total_bytes=_number(getattr(memory, "total", None)),
        used_bytes=_number(getattr(memory, "used", None)),
        utilization_percent=_number(getattr(utilization, "gpu", None)),
        temperature_celsius=_number(_query(nvml, nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU)),
        power_watts=None if milliwatts is None else milliwatts / 1000,
        processes=_processes(nvml, handle),
    )


def _host_memory() -> tuple[int, int]:
    """Total bytes, and bytes available without swapping; from /proc/meminfo if there is one.

    Importing psutil takes four milliseconds, which would delay the first screen.
    """
    with contextlib.suppress(OSError, KeyError, ValueError):
        with open("/proc/meminfo", encoding="ascii") as lines:
            kibibytes = {name: int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines)}
        return kibibytes["MemTotal"] * 1024, kibibytes["MemAvailable"] * 1024
    import psutil

    memory = psutil.virtual_memory()
    return int(memory.total), int(memory.available)


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
    except psutil.Error:
        return None


def _processes(nvml: ModuleType, handle: object) -> dict[int, int | None]:
    """Bytes by pid; NVML lists a process that both computes and draws twice, with the same bytes."""
    found: dict[int, int | None] = {}
    for query in (nvml.nvmlDeviceGetComputeRunningProcesses, nvml.nvmlDeviceGetGraphicsRunningProcesses):
        processes = _query(nvml, query, handle)
        for process in processes if isinstance(processes, list) else []:
            used = _number(process.usedGpuMemory)
            known = found.get(int(process.pid))
            found[int(process.pid)] = used if known is None else known if used is None else max(known, used)
    return found


def _query(nvml: ModuleType, query: Callable[..., object], *arguments: object) -> object | None:
    """The driver's answer; None if it gives none: not supported, not permitted, not in this version, GPU lost."""
    try:
        return query(*arguments)
    except nvml.NVMLError:
        return None


def _number(value: object) -> int | None:
    """The value if it is available: NVML marks others by the largest numbers of the type."""
    return value if isinstance(value, int) and 0 <= value < NOT_AVAILABLE else None


def _text(value: object) -> str | None:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    return value if isinstance(value, str) else None
