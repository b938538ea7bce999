"""The viewer's binding of NVML gives the answers of NVIDIA's own one, on the same library."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from gpumodels_tui.sources import nvml_library
from gpumodels_tui.sources.gpu_reading import GpuReading
from nvml.simulation import SimulatedNvml, compiler
from snapshots import A100, GIB, a_gpu

DEVICE: Final = (
    ("UUID",),
    ("Name",),
    ("MemoryInfo",),
    ("MemoryInfo", "nvmlMemory_v2"),
    ("UtilizationRates",),
    ("PowerUsage",),
    ("Temperature", 0),
    ("TemperatureV1", 0),
    ("ComputeRunningProcesses",),
    ("ComputeRunningProcesses_v2",),
    ("ComputeRunningProcesses_v3",),
    ("GraphicsRunningProcesses",),
    ("MigMode",),
    ("MaxMigDeviceCount",),
)
ASK: Final = """
import importlib, json, sys
nvml, wanted = importlib.import_module(sys.argv[1]), json.loads(sys.argv[2])

def plain(value):
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if hasattr(value, "usedGpuMemory"):
        used = value.usedGpuMemory
        return [value.pid, None if used == 2**64 - 1 else used]
    if hasattr(value, "_fields_"):
        return {field[0]: getattr(value, field[0]) for field in value._fields_}
    return value

def asked(name, *arguments):
    arguments = [getattr(nvml, one) if isinstance(one, str) else one for one in arguments]
    try:
        return plain(getattr(nvml, name)(*arguments))
    except nvml.NVMLError as error:
        return [isinstance(error, nvml.NVMLError_FunctionNotFound), error.value, str(error)]

answers = [asked("nvmlInit"), asked("nvmlDeviceGetCount"), asked("nvmlDeviceGetHandleByIndex", 99)]
for index in range(3):
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    for name, *arguments in wanted:
        arguments = [getattr(nvml, one) if isinstance(one, str) else one for one in arguments]
        answers.append([name, asked("nvmlDeviceGet" + name, handle, *arguments)])
    try:
        part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, 0)
    except nvml.NVMLError as error:
        answers.append(error.value)
    else:
        answers.append([asked("nvmlDeviceGetUUID", part), asked("nvmlDeviceGetMemoryInfo", part)])
answers.append(asked("nvmlShutdown"))
print(json.dumps(answers))
"""


def answers(nvml: SimulatedNvml, binding: str) -> list[Any]:
    command = [sys.executable, "-c", ASK, binding, json.dumps(DEVICE)]
    shown = subprocess.run(command, env=nvml.environment(), capture_output=True, text=True, timeout=60, check=True)
    found: list[Any] = json.loads(shown.stdout)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "without", [(), ("nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetTemperatureV", "nvmlDeviceGetComputeRunningProcesses_v2")]
)
def test_each_answer_is_that_of_the_binding_of_nvidia(tmp_path: Path, without: Sequence[str]) -> None:
    pytest.importorskip("pynvml")
    if compiler() is None:
        pytest.skip("no C compiler")
    nvml = SimulatedNvml(tmp_path, without)
    divided = a_gpu(1, A100, "NVIDIA A100-SXM4-40GB")
    part = GpuReading(0, "MIG-1", "NVIDIA A100 MIG 1g.5gb", 5 * GIB, GIB, parent=A100, parent_index=1, processes={7: GIB})
    nvml.says(
        a_gpu(processes={4711: 18 * GIB, 4712: None}),
        divided,
        part,
        GpuReading(2, "GPU-9", "NVIDIA GB10"),
    )
    ours = answers(nvml, nvml_library.__name__)
    assert ours == answers(nvml, "pynvml")
    assert ["MemoryInfo", {"total": 80 * GIB, "free": ours[5][1]["free"], "used": ours[5][1]["used"]}] == ours[5]


def test_without_a_driver_the_library_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml_library, "LIBRARY", "libnvidia-ml-of-nobody.so.1")
    monkeypatch.setattr(nvml_library, "nvmlLib", None)
    with pytest.raises(nvml_library.NVMLError_LibraryNotFound) as raised:
        nvml_library.nvmlInit()
    assert (raised.value.value, str(raised.value)) == (12, "NVML Shared Library Not Found")


def test_versions_of_structures_are_those_of_the_header() -> None:
    assert nvml_library.nvmlMemory_v2 == 0x02000028
