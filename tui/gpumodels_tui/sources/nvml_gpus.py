"""All GPUs that NVML reports, and those that it reported before: a GPU that is lost keeps its place until it is back."""

from __future__ import annotations

import contextlib
import importlib
import time
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Final

from gpumodels_tui.sources.figures import MOST_GPUS, figure
from gpumodels_tui.sources.gpu_reading import UNNAMED, GpuReading, lost_reading, read_gpu
from gpumodels_tui.sources.nvml_calls import NvmlCalls, description

BINDING: Final = "gpumodels_tui.sources.nvml_library"
"""The module of NVML's functions, imported when they are first needed."""

RETRY_SECONDS: Final = 10.0
"""How long to wait before a driver that doesn't answer is started again, also for a GPU that is lost."""

ADVICE: Final = {
    4: "This user may not open /dev/nvidiactl.",
    9: "`modprobe nvidia` loads it.",
    18: "If it was updated, start this viewer again, which has the older library; if nvidia-smi fails too, restart the machine.",
}
"""What to do, by NVML's return code."""


class NvmlGpus:
    """Loads NVML at the first reading; without its library there are no NVIDIA GPUs."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Args:
        clock: A monotonic clock in seconds.
        """
        self._clock = clock
        self._nvml: ModuleType | None = None
        self._calls: NvmlCalls | None = None
        self._missing = False
        self._problem: str | None = None
        self._retry_at = float("-inf")
        self._known: dict[str, GpuReading] = {}
        """All GPUs and slices that were ever read, by key, in order."""

    def read(self, host_total_bytes: int | None) -> tuple[tuple[GpuReading, ...], tuple[str, ...]]:
        """The GPUs, each followed by its slices, and what is wrong with them or with the driver, a sentence each."""
        gpus, problem = self._read(host_total_bytes)
        self._known = {gpu.key: gpu for gpu in gpus}
        problems = [] if problem is None else [problem]
        problems += [_about_lost(gpu) for gpu in gpus if gpu.lost is not None and gpu.parent is None and problem is None]
        if problem is None and self._calls is not None and self._calls.problem is not None:
            problems.append(self._calls.problem)
        if any(gpu.lost is not None for gpu in gpus) and self._calls is not None and self._clock() >= self._retry_at:
            # NVML answers for a GPU that came back only once it is started again.
            self.close()
        return gpus, tuple(problems)

    def close(self) -> None:
        """Shut NVML down; a later reading starts it again."""
        nvml, self._nvml, self._calls = self._nvml, None, None
        if nvml is not None:
            with contextlib.suppress(Exception):  # it is over, however it says so
                nvml.nvmlShutdown()

    def _read(self, host_total_bytes: int | None) -> tuple[tuple[GpuReading, ...], str | None]:
        if self._calls is None and not self._start():
            return self._all_lost(), self._problem
        nvml, calls = self._nvml, self._calls
        assert nvml is not None
        assert calls is not None
        try:
            count = figure(nvml.nvmlDeviceGetCount(), MOST_GPUS)
            if count is None:
                raise ValueError("the number of GPUs makes no sense")
        except Exception as error:  # noqa: BLE001  # the binding raises more than its own errors
            self.close()
            self._fail(error)
            return self._all_lost(), self._problem
        found: list[GpuReading] = []
        for index in range(count):
            found += self._read_or_lost(calls, index, host_total_bytes)
        return self._with_vanished(found), None

    def _read_or_lost(self, calls: NvmlCalls, index: int, host_total_bytes: int | None) -> list[GpuReading]:
        """The GPU of this index and its slices; if it is lost, as they were known before."""
        read = read_gpu(calls, index, host_total_bytes)
        if calls.lost is None:
            return list(read)
        gpu = read[0] if read else next((one for one in self._known.values() if one.index == index and one.parent is None), None)
        if gpu is None:
            gpu = GpuReading(index, "", UNNAMED)
        known = self._known.get(gpu.key)
        now_ns = 0 if known is None else time.time_ns()
        known = known or gpu
        self._expect_back()
        slices = [one for one in self._known.values() if one.parent == known.uuid and known.uuid]
        return [lost_reading(one, calls.lost, now_ns) for one in (known, *slices)]

    def _with_vanished(self, found: Sequence[GpuReading]) -> tuple[GpuReading, ...]:
        """Those that were found, and those of before that NVML doesn't list any more.

        A slice that is gone while its GPU is there was removed by somebody; it is not lost.
        """
        keys = {gpu.key for gpu in found}
        indexes = {gpu.index for gpu in found if gpu.parent is None}
        gone = [
            gpu
            for key, gpu in self._known.items()
            if key not in keys and (gpu.parent is None or gpu.parent not in keys) and (gpu.uuid or gpu.index not in indexes)
        ]
        if not gone:
            return tuple(found)
        self._expect_back()
        lost = [lost_reading(gpu, gpu.lost or "the driver doesn't list it any more", time.time_ns()) for gpu in gone]
        return tuple(sorted((*found, *lost), key=_order))

    def _all_lost(self) -> tuple[GpuReading, ...]:
        return tuple(lost_reading(gpu, "the driver doesn't answer", time.time_ns()) for gpu in self._known.values())

    def _expect_back(self) -> None:
        """Start NVML again in a while."""
        if self._clock() >= self._retry_at + RETRY_SECONDS:
            self._retry_at = self._clock() + RETRY_SECONDS

    def _start(self) -> bool:
        if self._missing or self._clock() < self._retry_at:
            return False
        nvml = None
        try:
            nvml = importlib.import_module(BINDING)
            nvml.nvmlInit()
        except Exception as error:  # noqa: BLE001  # the binding raises more than its own errors, also while it is imported
            if isinstance(error, getattr(nvml, "NVMLError_LibraryNotFound", ImportError)) and not self._known:
                self._missing = True
            else:
                self._fail(error)
            return False
        self._nvml, self._calls, self._problem = nvml, NvmlCalls(nvml), None
        return True

    def _fail(self, error: Exception) -> None:
        advice = ADVICE.get(getattr(error, "value", 0), "Is it loaded, and does it match its library? nvidia-smi tells more.")
        self._problem = f"The NVIDIA driver doesn't answer ({description(error)}). {advice}"
        self._retry_at = self._clock() + RETRY_SECONDS


def _about_lost(gpu: GpuReading) -> str:
    name = "" if gpu.name == UNNAMED else f" ({gpu.name})"
    return f"GPU {gpu.index}{name} is lost: {gpu.lost}. Nothing is known of its memory until it is back; nvidia-smi tells more."


def _order(gpu: GpuReading) -> tuple[int, bool, str, bool, int]:
    """GPUs by index, those that are lost after those that have their numbers now, each before its slices."""
    is_lost = gpu.lost is not None
    if gpu.parent is not None:
        return gpu.parent_index or 0, is_lost, gpu.parent, True, gpu.index
    return gpu.index, is_lost, gpu.uuid, False, 0
