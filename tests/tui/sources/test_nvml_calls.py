"""What becomes of each kind of answer; a library of real functions answers in test_gpus."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

from gpumodels_tui.sources.nvml_calls import NvmlCalls, available


class NVMLError(Exception):
    """As the binding's."""


class FunctionNotFound(NVMLError):
    """As the binding's."""


def a_binding(**functions: Callable[..., Any]) -> ModuleType:
    binding = ModuleType("pynvml")
    vars(binding).update(functions, NVMLError=NVMLError, NVMLError_FunctionNotFound=FunctionNotFound)
    return binding


def raising(error: Exception) -> Callable[..., Any]:
    def call(*_: object) -> Any:
        raise error

    return call


def test_what_the_driver_refuses_is_unknown_and_no_problem() -> None:
    calls = NvmlCalls(a_binding(nvmlDeviceGetPowerUsage=raising(NVMLError("Not Supported"))))
    assert calls.number("nvmlDeviceGetPowerUsage", 0) is None
    assert calls.problem is None


def test_a_version_that_is_refused_is_no_reason_not_to_ask_the_next() -> None:
    binding = a_binding(
        processes_v3=raising(NVMLError("Argument Version Mismatch")),
        processes_v2=lambda handle: [SimpleNamespace(pid=7, usedGpuMemory=2**64 - 1), SimpleNamespace(pid=None)],
    )
    calls = NvmlCalls(binding)
    assert calls.processes("processes", 0) == [(7, None)]
    assert calls.problem is None


def test_a_missing_function_is_said_once_with_the_first_reason() -> None:
    calls = NvmlCalls(
        a_binding(processes_v3=raising(FunctionNotFound("Function Not Found")), processes=raising(ValueError("odd")))
    )
    assert calls.processes("processes", 0) == calls.processes("processes", 1) == []
    assert calls.problem == "NVML doesn't answer processes (Function Not Found); what that would tell is unknown"


def test_an_error_that_cannot_say_what_it_is_is_called_by_its_class() -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    calls = NvmlCalls(a_binding(name=raising(MuteError())))
    assert calls.text("name", 0) is None
    assert "name (MuteError)" in (calls.problem or "")


def test_a_name_of_bytes_is_text() -> None:
    assert NvmlCalls(a_binding(name=lambda handle: b"H\xff")).text("name", 0) == "H\\xff"


def test_numbers_that_mark_what_is_not_available_are_none() -> None:
    assert [available(value) for value in (0, 5, -1, 2**64 - 1, None, "5")] == [0, 5, None, None, None, None]
