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

from gpumodels_tui.sources.nvml_calls import NvmlCalls, available, description

RETRY_SECONDS: Final = 10.0
"""How long to wait before a driver that doesn't answer is asked again."""

HOST_STEP_BYTES: Final = 32 * 1024**2
"""Used host memory is rounded down to this: it changes all the time, and nobody needs it in finer steps."""

PROCESS_CALLS: Final = ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses")


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
        self._calls: NvmlCalls | None = None
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
        nvml, self._nvml, self._calls = self._nvml, None, None
        if nvml is not None:
            with contextlib.suppress(Exception):  # it is over, however it says so
                nvml.nvmlShutdown()

    def _read_gpus(self) -> tuple[tuple[GpuReading, ...], str | None]:
        if self._calls is None and not self._start():
            return (), self._problem
        nvml, calls = self._nvml, self._calls
        assert nvml is not None
        assert calls is not None
        try:
            count = int(nvml.nvmlDeviceGetCount())
        except Exception as error:  # noqa: BLE001  # the binding raises more than its own errors
            self.close()
            self._fail(error)
            return (), self._problem
        readings = [_read_gpu(calls, index) for index in range(count)]
        return tuple(reading for reading in readings if reading is not None), calls.problem

    def _start(self) -> bool:
        if self._missing or self._clock() < self._retry_at:
            return False
        nvml = None
        try:
            nvml = importlib.import_module("pynvml")
            nvml.nvmlInit()
        except Exception as error:  # noqa: BLE001  # the binding raises more than its own errors, also while it is imported
            if isinstance(error, getattr(nvml, "NVMLError_LibraryNotFound", ImportError)):
                self._missing = True
            else:
                self._fail(error)
            return False
        self._nvml, self._calls, self._problem = nvml, NvmlCalls(nvml), None
        return True

    def _fail(self, error: Exception) -> None:
        said = description(error)
        self._problem = f"NVML: {said}; is the NVIDIA driver loaded, and does it match its library? (see nvidia-smi)"
        self._retry_at = self._clock() + RETRY_SECONDS


def _read_gpu(calls: NvmlCalls, index: int) -> GpuReading | None:
    """One GPU. Each value is queried on its own, since drivers refuse some on some GPUs; None if it has no UUID."""
    handle = calls.structure("nvmlDeviceGetHandleByIndex", index)
    uuid = calls.text("nvmlDeviceGetUUID", handle) if handle is not None else None
    if uuid is None:
        return None
    memory = calls.memory(handle)
    utilization = calls.structure("nvmlDeviceGetUtilizationRates", handle)
    milliwatts = calls.number("nvmlDeviceGetPowerUsage", handle)
    return GpuReading(
        index=index,
        uuid=uuid,
        name=calls.text("nvmlDeviceGetName", handle) or "GPU",
        total_bytes=available(getattr(memory, "total", None)),
        used_bytes=available(getattr(memory, "used", None)),
        utilization_percent=available(getattr(utilization, "gpu", None)),
        temperature_celsius=calls.temperature(handle),
        power_watts=None if milliwatts is None else milliwatts / 1000,
        processes=_processes(calls, handle),
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
    except (psutil.Error, OverflowError, ValueError):  # the latter two for numbers that can't be a pid
        return None


def _processes(calls: NvmlCalls, handle: object) -> dict[int, int | None]:
    """Bytes by pid; NVML lists a process that both computes and draws twice, with the same bytes."""
    found: dict[int, int | None] = {}
    for function in PROCESS_CALLS:
        for pid, used in calls.processes(function, handle):
            known = found.get(pid)
            found[pid] = used if known is None else known if used is None else max(known, used)
    return found
