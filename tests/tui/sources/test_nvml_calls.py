"""What becomes of each kind of answer; a library of real functions answers in test_gpus."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from gpumodels_tui.sources.nvml_calls import NvmlCalls, description


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
    assert calls.number("nvmlDeviceGetPowerUsage", 1000, 0) is None
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
        a_binding(processes=raising(FunctionNotFound("Function Not Found")), processes_v3=raising(ValueError("odd")))
    )
    assert calls.processes("processes", 0) is None
    assert calls.processes("processes", 1) is None
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


class CodedError(NVMLError):
    """As the binding's errors of a known code."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.value = code


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        # nvidia-ml-py 13.615's own words for code 18.
        ("RM has detected an NVML/RM version mismatch.", "RM has detected an NVML/RM version mismatch"),
        ("Driver/library version mismatch\nNVML library version: 570.86", "Driver/library version mismatch"),
        ("Unknown Error.  Please reboot.", "Unknown Error"),
        ("  GPU is lost!  ", "GPU is lost"),
        ("Insufficient Permissions:", "Insufficient Permissions"),
        ("library 12.575.57 is too old.", "library 12.575.57 is too old"),
        ("", "NVMLError"),
        ("...", "NVMLError"),
    ],
)
def test_what_the_binding_says_is_its_first_sentence_without_its_full_stop(said: str, heard: str) -> None:
    assert description(NVMLError(said)) == heard


def test_a_refusal_that_says_the_gpu_is_lost_is_kept_until_it_is_cleared() -> None:
    calls = NvmlCalls(a_binding(power=raising(CodedError(15, "GPU is lost")), name=raising(CodedError(3, "Not Supported"))))
    assert (calls.text("name", 0), calls.lost) == (None, None)
    assert (calls.number("power", 1000, 0), calls.text("name", 0), calls.lost) == (None, None, "GPU is lost")
    calls.lost = None
    assert calls.text("name", 0) is None
    assert calls.lost is None


def test_what_a_gpu_has_not_is_told_from_what_may_not_be_asked() -> None:
    version, unsupported, forbidden = CodedError(25, "Version"), CodedError(3, "Not Supported"), CodedError(4, "Permissions")
    for errors, is_unsupported in (
        ((version, unsupported), True),
        ((unsupported, unsupported), True),
        ((forbidden, unsupported), False),
    ):
        replies = iter(errors)

        def memory(*_: object, replies: Iterator[Exception] = replies) -> object:
            raise next(replies)

        calls = NvmlCalls(a_binding(nvmlDeviceGetMemoryInfo=memory))
        assert calls.memory(0) is None
        assert calls.is_unsupported is is_unsupported


def test_a_function_that_only_newer_drivers_have_is_not_missed() -> None:
    calls = NvmlCalls(a_binding(nvmlDeviceGetMigMode=raising(FunctionNotFound("Function Not Found"))))
    assert (calls.optional("nvmlDeviceGetMigMode", 0), calls.problem) == (None, None)


def test_processes_that_cannot_be_told_are_not_none_at_all() -> None:
    calls = NvmlCalls(a_binding(listed=lambda handle: [], refused=raising(CodedError(3, "Not Supported"))))
    assert (calls.processes("listed", 0), calls.processes("refused", 0)) == ([], None)


def test_a_name_is_asked_until_it_is_told_and_not_again() -> None:
    answers = iter([raising(NVMLError("Not Supported")), lambda handle: "NVIDIA H100"])
    binding = a_binding(nvmlDeviceGetName=lambda handle: next(answers)(handle))
    calls = NvmlCalls(binding)
    assert [calls.name("GPU-1", 0) for _ in range(3)] == [None, "NVIDIA H100", "NVIDIA H100"]
    with pytest.raises(StopIteration):
        next(answers)


def test_a_gpu_that_cannot_be_divided_is_not_asked_again_and_one_that_can_is() -> None:
    asked: list[object] = []

    def mode(handle: object) -> list[int]:
        asked.append(handle)
        if handle == "GeForce":
            raise CodedError(3, "Not Supported")
        if handle == "lost":
            raise CodedError(15, "GPU is lost")
        return [0, 1]

    calls = NvmlCalls(a_binding(nvmlDeviceGetMigMode=mode))
    for _ in range(2):
        assert calls.mig_mode("GPU-1", "GeForce") is None
        assert calls.mig_mode("GPU-2", "lost") is None
        assert calls.mig_mode("GPU-3", "H100") == [0, 1]
    assert asked == ["GeForce", "lost", "H100", "lost", "H100"]
