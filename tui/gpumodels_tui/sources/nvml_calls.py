"""Calls of NVML, NVIDIA's library, through its binding. None of them raises, whatever the driver and the binding do."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

from gpumodels_shared.safe_text import safe_text

NOT_AVAILABLE: Final = 2**63
"""NVML marks a 64-bit value as not available by numbers above this, larger than any GPU's memory."""

SUCCESS: Final = 0
INSUFFICIENT_SIZE: Final = 7
"""Return codes of NVML, as of `nvml.h`."""

SPARE_PROCESSES: Final = 16
"""Room for processes that start between asking how many there are and asking which."""


class _FirstProcessInfo(ctypes.Structure):
    """`nvmlProcessInfo_v1_t` of `nvml.h`: what the call without a version fills in, in every driver."""

    _fields_ = (("pid", ctypes.c_uint), ("usedGpuMemory", ctypes.c_ulonglong))


class NvmlCalls:
    """The functions of the started binding, each of which answers None where it has no answer."""

    def __init__(self, binding: ModuleType) -> None:
        self._binding = binding
        self._missing: dict[str, str] = {}

    @property
    def problem(self) -> str | None:
        """What this driver's library couldn't be asked at all; None if it answered or refused every call."""
        if not self._missing:
            return None
        return f"NVML doesn't answer {', '.join(self._missing.values())}; what that would tell is unknown"

    def number(self, function: str, *arguments: object) -> int | None:
        """A number, if it is available."""
        return available(self._first_answer(function, self._call(function, *arguments)))

    def text(self, function: str, *arguments: object) -> str | None:
        """A text."""
        answer = self._first_answer(function, self._call(function, *arguments))
        if isinstance(answer, bytes):
            answer = answer.decode("utf-8", "backslashreplace")
        return answer if isinstance(answer, str) else None

    def structure(self, function: str, *arguments: object) -> object | None:
        """A handle or a structure."""
        return self._first_answer(function, self._call(function, *arguments))

    def memory(self, handle: object) -> object | None:
        """Total and used bytes. Version 2 counts the driver's reserved memory separately, as nvidia-smi does."""
        function = "nvmlDeviceGetMemoryInfo"
        second = getattr(self._binding, "nvmlMemory_v2", None)
        return self._first_answer(function, self._call(function, handle, second), self._call(function, handle))

    def temperature(self, handle: object) -> int | None:
        """Degrees Celsius. The older of the two functions is to be removed from drivers."""
        sensor = getattr(self._binding, "NVML_TEMPERATURE_GPU", 0)
        older = "nvmlDeviceGetTemperature"
        return available(
            self._first_answer(older, self._call(older, handle, sensor), self._call("nvmlDeviceGetTemperatureV1", handle, sensor))
        )

    def processes(self, function: str, handle: object) -> list[tuple[int, int | None]]:
        """Pids and bytes. A driver has the versions of this call that were known when it was made."""
        answer = self._first_answer(
            function,
            self._call(f"{function}_v3", handle),
            self._call(f"{function}_v2", handle),
            lambda: self._processes_without_version(function, handle),
            self._call(function, handle),
        )
        found: list[tuple[int, int | None]] = []
        for process in answer if isinstance(answer, list) else []:
            pid = getattr(process, "pid", None)
            if isinstance(pid, int):
                found.append((pid, available(getattr(process, "usedGpuMemory", None))))
        return found

    def _call(self, function: str, *arguments: object) -> Callable[[], object]:
        return lambda: getattr(self._binding, function)(*arguments)

    def _first_answer(self, function: str, *ways: Callable[[], object]) -> object | None:
        """The answer to the first of these calls that gives one.

        That NVML refuses (not supported, not permitted, GPU lost) is nothing to report. The rest is said once: functions that
        the library or the binding lacks, and what the binding raises besides NVML's errors.
        """
        refused, unasked = False, ""
        for way in ways:
            try:
                return way()
            except Exception as error:  # noqa: BLE001  # the binding raises what it likes; nothing of it may end the viewer
                if self._is_refusal(error):
                    refused = True
                unasked = unasked or description(error)
        if not refused:
            self._missing.setdefault(function, f"{function} ({unasked})")
        return None

    def _is_refusal(self, error: Exception) -> bool:
        """Whether the driver itself answered so."""
        refusal, missing = (getattr(self._binding, name, ()) for name in ("NVMLError", "NVMLError_FunctionNotFound"))
        return isinstance(error, refusal) and not isinstance(error, missing)

    def _processes_without_version(self, function: str, handle: object) -> list[_FirstProcessInfo]:
        """The call as drivers before 450 have it; today's bindings don't offer it.

        Raises:
            AttributeError: neither has the library.
            Exception: the binding's own, with NVML's return code.
        """
        ask: Any = getattr(self._binding.nvmlLib, function)
        count = ctypes.c_uint(0)
        code = ask(handle, ctypes.byref(count), None)
        if code == SUCCESS:
            return []
        if code == INSUFFICIENT_SIZE:
            count = ctypes.c_uint(count.value + SPARE_PROCESSES)
            processes = (_FirstProcessInfo * count.value)()
            code = ask(handle, ctypes.byref(count), processes)
            if code == SUCCESS:
                return list(processes[: count.value])
        raise self._binding.NVMLError(code)


def available(value: object) -> int | None:
    """The value if it is available: NVML marks others by the largest numbers of the type."""
    return value if isinstance(value, int) and 0 <= value < NOT_AVAILABLE else None


def description(error: Exception) -> str:
    """What the binding says, in one sentence."""
    try:
        said = str(error)
    except Exception:  # noqa: BLE001  # the binding asks the library for the text, which may lack that, too
        said = ""
    return safe_text(said.partition(". ")[0] or type(error).__name__)
