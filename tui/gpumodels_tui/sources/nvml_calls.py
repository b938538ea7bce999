"""Calls of NVML, NVIDIA's library, through its binding. None of them raises, whatever the driver and the binding do."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

from gpumodels_shared.safe_text import safe_text
from gpumodels_tui.sources.figures import MOST_BYTES, MOST_CELSIUS, figure

SUCCESS: Final = 0
NOT_SUPPORTED: Final = 3
NO_PERMISSION: Final = 4
INVALID_ARGUMENT: Final = 2
INSUFFICIENT_SIZE: Final = 7
ARGUMENT_VERSION_MISMATCH: Final = 25
UNKNOWN: Final = 999
LOST: Final = frozenset({1, 9, 15, 16, 18, 28})
"""Return codes of NVML, as of `nvml.h`. Those of `LOST` say that a GPU can't be asked at all: NVML isn't started any more, the
driver isn't loaded, the GPU fell off the bus, has to be reset, is driven by another version, or isn't found."""

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
        self.lost: str | None = None
        """Why the GPU can't be asked, in the driver's words, if one of the calls since this was last set to None said so."""
        self.trouble: str | None = None
        """The same for an error that the driver knows no name for."""
        self.refusal: str | None = None
        """What the driver said when it refused the last call; None if it answered."""
        self._codes: set[object] = set()
        self._lasting: dict[tuple[str, str], object] = {}

    @property
    def problem(self) -> str | None:
        """What this driver's library couldn't be asked at all; None if it answered or refused every call."""
        if not self._missing:
            return None
        return f"NVML doesn't answer {', '.join(self._missing.values())}; what that would tell is unknown"

    @property
    def is_unsupported(self) -> bool:
        """Whether the last call was refused because the GPU has nothing of the kind."""
        return self.refusal is not None and NOT_SUPPORTED in self._codes <= {NOT_SUPPORTED, ARGUMENT_VERSION_MISMATCH}

    @property
    def is_not_for_us(self) -> bool:
        """Whether the last call was refused because of what we are or asked, and not because of the GPU."""
        return bool(self._codes & {NO_PERMISSION, INVALID_ARGUMENT})

    def number(self, function: str, most: int, *arguments: object) -> int | None:
        """A number, if it is available and at most `most`."""
        return figure(self._first_answer(function, self._call(function, *arguments)), most)

    def optional(self, function: str, *arguments: object) -> object | None:
        """What only newer drivers are asked; that an older one lacks the function is nothing to report."""
        return self._first_answer(None, self._call(function, *arguments))

    def name(self, uuid: str, handle: object) -> str | None:
        """The name of the GPU or slice with this UUID, which is asked until it is told."""
        known = self._lasting.get((uuid, "name"))
        if known is None:
            known = self._lasting[uuid, "name"] = self.text("nvmlDeviceGetName", handle)
        return known if isinstance(known, str) else None

    def mig_mode(self, uuid: str, handle: object) -> object | None:
        """Whether the GPU is divided into slices. One that can't be is not asked again."""
        if self._lasting.get((uuid, "whole")):
            return None
        mode = self.optional("nvmlDeviceGetMigMode", handle)
        self._lasting[uuid, "whole"] = mode is None and self.is_unsupported
        return mode

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
        newer = self._call("nvmlDeviceGetTemperatureV1", handle, sensor)
        return figure(self._first_answer(older, self._call(older, handle, sensor), newer), MOST_CELSIUS)

    def processes(self, function: str, handle: object) -> list[tuple[int, int | None]] | None:
        """Pids and bytes; None if they can't be told. A driver has the versions of this call that were known when it was made."""
        answer = self._first_answer(
            function,
            self._call(function, handle),  # the newest version that the binding knows
            self._call(f"{function}_v3", handle),
            self._call(f"{function}_v2", handle),
            lambda: self._processes_without_version(function, handle),
        )
        if not isinstance(answer, list):
            return None
        found: list[tuple[int, int | None]] = []
        for process in answer:
            pid = getattr(process, "pid", None)
            if isinstance(pid, int):
                found.append((pid, figure(getattr(process, "usedGpuMemory", None), MOST_BYTES)))
        return found

    def _call(self, function: str, *arguments: object) -> Callable[[], object]:
        return lambda: getattr(self._binding, function)(*arguments)

    def _first_answer(self, function: str | None, *ways: Callable[[], object]) -> object | None:
        """The answer to the first of these calls that gives one.

        That NVML refuses (not supported, not permitted) is nothing to report, and that the GPU is lost is kept in `lost`. The
        rest is said once under the function's name, if it has one: functions that the library or the binding lacks, and what the
        binding raises besides NVML's errors.
        """
        self.refusal, self._codes = None, set()
        refused, unasked = False, ""
        for way in ways:
            try:
                answer = way()
            except Exception as error:  # noqa: BLE001  # the binding raises what it likes; nothing of it may end the viewer
                if self._is_refusal(error):
                    self._note_refusal(error)
                    refused = True
                unasked = unasked or description(error)
            else:
                self.refusal = None
                return answer
        if not refused and function is not None:
            self._missing.setdefault(function, f"{function} ({unasked})")
        return None

    def _note_refusal(self, error: Exception) -> None:
        code = getattr(error, "value", None)
        self._codes.add(code)
        self.refusal = self.refusal or description(error)
        if code == UNKNOWN:
            self.trouble = self.trouble or description(error)
        if code in LOST:
            self.lost = self.lost or description(error)

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


def description(error: Exception) -> str:
    """What the binding says: its first sentence, without the full stop, so that it can stand inside another one."""
    try:
        said = str(error)
    except Exception:  # noqa: BLE001  # the binding asks the library for the text, which may lack that, too
        said = ""
    said = " ".join((said.strip().splitlines() or [""])[0].split())
    first = re.split(r"[.!?](?:\s|$)", said, maxsplit=1)[0].strip(" .:;,-!?")
    return safe_text(first or type(error).__name__)
