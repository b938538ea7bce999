"""The few functions of NVML, NVIDIA's library, that the viewer needs, under the names that NVIDIA's own binding for Python has.

That binding, nvidia-ml-py, has four hundred functions, and takes as long to import as all of the viewer's own modules. The
structures and their versions are those of `nvml.h`; every function raises `NVMLError` with the return code if it isn't 0.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

LIBRARY: Final = "libnvidia-ml.so.1"

NVML_TEMPERATURE_GPU: Final = 0

LIBRARY_NOT_FOUND: Final = 12
FUNCTION_NOT_FOUND: Final = 13
INSUFFICIENT_SIZE: Final = 7
OWN_WORDS: Final = {LIBRARY_NOT_FOUND: "NVML Shared Library Not Found", FUNCTION_NOT_FOUND: "Function Not Found"}
"""What is said of return codes that this module gives, and not the library."""

TEXT_BYTES: Final = 96
"""`NVML_DEVICE_NAME_V2_BUFFER_SIZE` and `NVML_DEVICE_UUID_V2_BUFFER_SIZE`, the longest texts that are asked for."""
SPARE_PROCESSES: Final = 16
"""Room for processes that start between asking how many there are and asking which."""


class NVMLError(Exception):
    """What the library answered instead of a value."""

    def __init__(self, value: int) -> None:
        super().__init__(value)
        self.value = value
        """One of the return codes in `nvml.h`."""

    def __str__(self) -> str:
        """The library's words for the code."""
        if self.value in OWN_WORDS:
            return OWN_WORDS[self.value]
        words = nvmlLib.nvmlErrorString
        words.restype = ctypes.c_char_p
        said: bytes = words(self.value) or b""
        return said.decode("utf-8", "backslashreplace")


class NVMLError_LibraryNotFound(NVMLError):  # noqa: N801, N818  # as in NVIDIA's binding
    """There is no driver on this machine, or none that this process can see."""


class NVMLError_FunctionNotFound(NVMLError):  # noqa: N801, N818
    """The driver's library is too old to have the function, or so new that it was removed."""


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class _Memory2(ctypes.Structure):
    _fields_ = (
        ("version", ctypes.c_uint),
        ("total", ctypes.c_ulonglong),
        ("reserved", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


class _Utilization(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class _Temperature(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint), ("sensorType", ctypes.c_int), ("temperature", ctypes.c_int))


class _ProcessInfo(ctypes.Structure):
    """`nvmlProcessInfo_v2_t`, which both later versions of the call fill in."""

    _fields_ = (
        ("pid", ctypes.c_uint),
        ("usedGpuMemory", ctypes.c_ulonglong),
        ("gpuInstanceId", ctypes.c_uint),
        ("computeInstanceId", ctypes.c_uint),
    )


def _version(structure: type[ctypes.Structure], number: int) -> int:
    """`NVML_STRUCT_VERSION` of `nvml.h`."""
    return ctypes.sizeof(structure) | number << 24


nvmlMemory_v2: Final = _version(_Memory2, 2)  # noqa: N816

nvmlLib: Any = None  # noqa: N816
"""The loaded library."""


def nvmlInit() -> None:  # noqa: N802
    """Load the library, and start it."""
    global nvmlLib
    if nvmlLib is None:
        try:
            nvmlLib = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise NVMLError_LibraryNotFound(LIBRARY_NOT_FOUND) from error
    _ask("nvmlInitWithFlags", ctypes.c_uint(0))


def nvmlShutdown() -> None:  # noqa: N802
    """Stop it."""
    _ask("nvmlShutdown")


def nvmlDeviceGetCount() -> int:  # noqa: N802
    """How many GPUs there are."""
    return _number("nvmlDeviceGetCount_v2")


def nvmlDeviceGetHandleByIndex(index: int) -> ctypes.c_void_p:  # noqa: N802
    """What a GPU is asked by."""
    handle = ctypes.c_void_p()
    _ask("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(handle))
    return handle


def nvmlDeviceGetUUID(handle: ctypes.c_void_p) -> bytes:  # noqa: N802
    """`GPU-…`, or `MIG-…` of a slice."""
    return _text("nvmlDeviceGetUUID", handle)


def nvmlDeviceGetName(handle: ctypes.c_void_p) -> bytes:  # noqa: N802
    """The product's name."""
    return _text("nvmlDeviceGetName", handle)


def nvmlDeviceGetMemoryInfo(handle: ctypes.c_void_p, version: int | None = None) -> ctypes.Structure:  # noqa: N802
    """Total and used bytes; with `nvmlMemory_v2`, those that the driver reserved are apart."""
    if version is None:
        memory: ctypes.Structure = _Memory()
        _ask("nvmlDeviceGetMemoryInfo", handle, ctypes.byref(memory))
    else:
        memory = _Memory2(version)
        _ask("nvmlDeviceGetMemoryInfo_v2", handle, ctypes.byref(memory))
    return memory


def nvmlDeviceGetUtilizationRates(handle: ctypes.c_void_p) -> ctypes.Structure:  # noqa: N802
    """Per cent of the last sample period in which the GPU and its memory were busy."""
    rates = _Utilization()
    _ask("nvmlDeviceGetUtilizationRates", handle, ctypes.byref(rates))
    return rates


def nvmlDeviceGetTemperature(handle: ctypes.c_void_p, sensor: int) -> int:  # noqa: N802
    """Degrees Celsius."""
    return _number("nvmlDeviceGetTemperature", handle, ctypes.c_int(sensor))


def nvmlDeviceGetTemperatureV1(handle: ctypes.c_void_p, sensor: int) -> int:  # noqa: N802
    """The same in drivers from 570 on."""
    asked = _Temperature(_version(_Temperature, 1), sensor)
    _ask("nvmlDeviceGetTemperatureV", handle, ctypes.byref(asked))
    return int(asked.temperature)


def nvmlDeviceGetPowerUsage(handle: ctypes.c_void_p) -> int:  # noqa: N802
    """Milliwatts."""
    return _number("nvmlDeviceGetPowerUsage", handle)


def nvmlDeviceGetComputeRunningProcesses(handle: ctypes.c_void_p) -> list[Any]:  # noqa: N802
    """The processes that compute, in the newest version."""
    return nvmlDeviceGetComputeRunningProcesses_v3(handle)


def nvmlDeviceGetComputeRunningProcesses_v3(handle: ctypes.c_void_p) -> list[Any]:  # noqa: N802
    """The same in this version."""
    return _processes("nvmlDeviceGetComputeRunningProcesses_v3", handle)


def nvmlDeviceGetComputeRunningProcesses_v2(handle: ctypes.c_void_p) -> list[Any]:  # noqa: N802
    """The same in this version."""
    return _processes("nvmlDeviceGetComputeRunningProcesses_v2", handle)


def nvmlDeviceGetGraphicsRunningProcesses(handle: ctypes.c_void_p) -> list[Any]:  # noqa: N802
    """The processes that draw, in the newest version."""
    return nvmlDeviceGetGraphicsRunningProcesses_v3(handle)


def nvmlDeviceGetGraphicsRunningProcesses_v3(handle: ctypes.c_void_p) -> list[Any]:  # noqa: N802
    """The same in this version."""
    return _processes("nvmlDeviceGetGraphicsRunningProcesses_v3", handle)


def nvmlDeviceGetGraphicsRunningProcesses_v2(handle: ctypes.c_void_p) -> list[Any]:  # noqa: N802
    """The same in this version."""
    return _processes("nvmlDeviceGetGraphicsRunningProcesses_v2", handle)


def nvmlDeviceGetMigMode(handle: ctypes.c_void_p) -> list[int]:  # noqa: N802
    """Whether the GPU is divided into slices, 0 or 1: now, and after its next reset."""
    current, pending = ctypes.c_uint(), ctypes.c_uint()
    _ask("nvmlDeviceGetMigMode", handle, ctypes.byref(current), ctypes.byref(pending))
    return [current.value, pending.value]


def nvmlDeviceGetMaxMigDeviceCount(handle: ctypes.c_void_p) -> int:  # noqa: N802
    """How many slices there can be."""
    return _number("nvmlDeviceGetMaxMigDeviceCount", handle)


def nvmlDeviceGetMigDeviceHandleByIndex(handle: ctypes.c_void_p, index: int) -> ctypes.c_void_p:  # noqa: N802
    """What a slice is asked by."""
    part = ctypes.c_void_p()
    _ask("nvmlDeviceGetMigDeviceHandleByIndex", handle, ctypes.c_uint(index), ctypes.byref(part))
    return part


def _ask(function: str, *arguments: object) -> None:
    code = _call(function, *arguments)
    if code:
        raise NVMLError(code)


def _call(function: str, *arguments: object) -> int:
    """The return code of a function of the library."""
    try:
        ask = getattr(nvmlLib, function)
    except AttributeError:
        raise NVMLError_FunctionNotFound(FUNCTION_NOT_FOUND) from None
    code: int = ask(*arguments)
    return code


def _number(function: str, *arguments: object) -> int:
    number = ctypes.c_uint()
    _ask(function, *arguments, ctypes.byref(number))
    return number.value


def _text(function: str, handle: ctypes.c_void_p) -> bytes:
    text = ctypes.create_string_buffer(TEXT_BYTES)
    _ask(function, handle, text, ctypes.c_uint(TEXT_BYTES))
    return text.value


def _processes(function: str, handle: ctypes.c_void_p) -> list[Any]:
    count = ctypes.c_uint(0)
    code = _call(function, handle, ctypes.byref(count), None)
    if code == INSUFFICIENT_SIZE:
        count = ctypes.c_uint(count.value + SPARE_PROCESSES)
        found = (_ProcessInfo * count.value)()
        _ask(function, handle, ctypes.byref(count), found)
        return found[: count.value]
    if code:
        raise NVMLError(code)
    return []
