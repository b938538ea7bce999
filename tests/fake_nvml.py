"""A stand-in for the binding of NVML, whose GPUs a test changes while they are watched."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Final

import pytest

from gpumodels_tui.sources.gpu_reading import GpuReading
from gpumodels_tui.sources.nvml_gpus import BINDING, NvmlGpus
from snapshots import A100, GIB, H100

NOT_SUPPORTED: Final = 3
NO_PERMISSION: Final = 4
NOT_FOUND: Final = 6
DRIVER_NOT_LOADED: Final = 9
GPU_IS_LOST: Final = 15
RESET_REQUIRED: Final = 16
VERSION_MISMATCH: Final = 18
UNKNOWN: Final = 999
"""Return codes of `nvml.h`."""

WORDS: Final = {
    NOT_SUPPORTED: "Not Supported",
    NO_PERMISSION: "Insufficient Permissions",
    NOT_FOUND: "Not Found",
    DRIVER_NOT_LOADED: "Driver Not Loaded",
    GPU_IS_LOST: "GPU is lost",
    RESET_REQUIRED: "GPU requires reset",
    VERSION_MISMATCH: "RM has detected an NVML/RM version mismatch.",
    UNKNOWN: "Unknown Error",
}


class NVMLError(Exception):
    """As the binding's: it knows its code, and its words end as the library's do."""

    def __init__(self, value: int) -> None:
        super().__init__(WORDS[value])
        self.value = value


class LibraryNotFound(NVMLError):
    """As the binding's."""


@dataclass
class FakeGpu:
    """One GPU or slice; an `int` in place of a value is the code that the driver refuses it with, in `refused`."""

    uuid: str
    name: str = "NVIDIA H100 80GB HBM3"
    total: int = 80 * GIB
    used: int = 20 * GIB
    utilization: int = 87
    temperature: int = 64
    milliwatts: int = 412_500
    processes: dict[int, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    """By question (`handle`, `uuid`, `memory`, `processes`, `all`): the code that answers it."""
    slices: Sequence[FakeGpu] | None = None
    """In MIG mode: its slices."""


class FakeNvml(ModuleType):
    """What the viewer asks of the binding."""

    NVMLError = NVMLError
    NVMLError_LibraryNotFound = LibraryNotFound

    def __init__(self, *gpus: FakeGpu) -> None:
        super().__init__("nvml")
        self.gpus = list(gpus)
        self.init_code = 0
        self.count: int | None = None
        """What it says to be the number of GPUs, if not their number."""
        self.inits = 0

    def nvmlInit(self) -> None:
        self.inits += 1
        self._answer(self.init_code)

    def nvmlShutdown(self) -> None:
        """Nothing to do."""

    def nvmlDeviceGetCount(self) -> int:
        self._answer(self.init_code)
        return len(self.gpus) if self.count is None else self.count

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:
        return self._asked(self.gpus[index], "handle")

    def nvmlDeviceGetUUID(self, gpu: FakeGpu) -> str:
        return self._asked(gpu, "uuid").uuid

    def nvmlDeviceGetName(self, gpu: FakeGpu) -> str:
        return self._asked(gpu, "name").name

    def nvmlDeviceGetMemoryInfo(self, gpu: FakeGpu, version: object = None) -> SimpleNamespace:
        self._asked(gpu, "memory")
        return SimpleNamespace(total=gpu.total, used=gpu.used)

    def nvmlDeviceGetUtilizationRates(self, gpu: FakeGpu) -> SimpleNamespace:
        return SimpleNamespace(gpu=self._asked(gpu, "utilization").utilization)

    def nvmlDeviceGetTemperature(self, gpu: FakeGpu, sensor: int) -> int:
        return self._asked(gpu, "temperature").temperature

    def nvmlDeviceGetPowerUsage(self, gpu: FakeGpu) -> int:
        return self._asked(gpu, "power").milliwatts

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: FakeGpu) -> list[SimpleNamespace]:
        self._asked(gpu, "processes")
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in gpu.processes.items()]

    def nvmlDeviceGetGraphicsRunningProcesses(self, gpu: FakeGpu) -> list[SimpleNamespace]:
        self._asked(gpu, "processes")
        return []

    def nvmlDeviceGetMigMode(self, gpu: FakeGpu) -> list[int]:
        if gpu.slices is None:
            raise NVMLError(NOT_SUPPORTED)
        return [1, 1]

    def nvmlDeviceGetMaxMigDeviceCount(self, gpu: FakeGpu) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, gpu: FakeGpu, index: int) -> FakeGpu:
        if gpu.slices is None or index >= len(gpu.slices):
            raise NVMLError(NOT_FOUND)
        return gpu.slices[index]

    def _asked(self, gpu: FakeGpu, question: str) -> FakeGpu:
        self._answer(gpu.refused.get("all", 0) or gpu.refused.get(question, 0))
        return gpu

    def _answer(self, code: int) -> None:
        if code:
            raise NVMLError(code)


def fake_nvml(monkeypatch: pytest.MonkeyPatch, *gpus: FakeGpu) -> FakeNvml:
    """Put it in the binding's place."""
    nvml = FakeNvml(*gpus)
    monkeypatch.setitem(sys.modules, BINDING, nvml)
    return nvml


HOST_TOTAL: Final = 256 * GIB


class Watched:
    """Two GPUs, read again and again by a clock that the test advances."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *gpus: FakeGpu) -> None:
        self.first, self.second = FakeGpu(H100), FakeGpu(A100, "NVIDIA A100", total=40 * GIB, processes={4711: GIB})
        self.nvml: FakeNvml = fake_nvml(monkeypatch, *(gpus or (self.first, self.second)))
        self.now = 1000.0
        self.problems: tuple[str, ...] = ()
        self._gpus = NvmlGpus(lambda: self.now)

    def read(self, seconds: float = 1) -> tuple[GpuReading, ...]:
        self.now += seconds
        gpus, self.problems = self._gpus.read(HOST_TOTAL)
        return gpus


def a_divided_gpu() -> FakeGpu:
    slices = [
        FakeGpu("MIG-1", "NVIDIA H100 MIG 1g.10gb", total=10 * GIB, used=GIB, processes={7: GIB}, refused={"utilization": 3}),
        FakeGpu("MIG-2", "NVIDIA H100 MIG 2g.20gb", total=20 * GIB, used=2 * GIB, refused={"utilization": 3}),
    ]
    return FakeGpu(H100, slices=slices, processes={7: GIB, 8: GIB})
