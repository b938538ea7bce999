from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import psutil
import pytest

from fake_nvml import FakeGpu, fake_nvml
from gpumodels_shared.records import replace
from gpumodels_tui.sources import gpus, nvml_gpus
from gpumodels_tui.sources.gpu_reading import AMD, INTEL, NVIDIA, PROCESS_CALLS, GpuReading
from gpumodels_tui.sources.gpus import Hardware, HardwareState, host_memory_only
from gpumodels_tui.sources.nvml_gpus import BINDING
from nvml.simulation import SimulatedNvml, compiler
from snapshots import A100, GIB, H100, a_gpu, a_model, a_snapshot, published
from sysfs import FakeKernel, fdinfo

READER = """
import msgspec, sys
from gpumodels_tui.sources.gpus import Hardware
hardware = Hardware(clock=iter(range(0, 100_000, 100)).__next__)
for _ in sys.stdin:
    print(msgspec.json.encode(hardware.read()).decode(), flush=True)
hardware.close()
"""


class Client:
    """A child process that reads the hardware when asked: the library can be replaced only for a process of its own."""

    def __init__(self, nvml: SimulatedNvml) -> None:
        self.nvml = nvml
        self._child = subprocess.Popen(
            [sys.executable, "-c", READER], env=nvml.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def read(self) -> HardwareState:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write("\n")
        self._child.stdin.flush()
        answer = json.loads(self._child.stdout.readline())
        gpus = tuple(
            GpuReading(**{**gpu, "processes": {int(pid): used for pid, used in gpu["processes"].items()}})
            for gpu in answer["gpus"]
        )
        return HardwareState(**{**answer, "gpus": gpus, "running": {}, "problems": tuple(answer["problems"])})

    def close(self) -> None:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.close()
        self._child.wait(timeout=30)
        self._child.stdout.close()


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> SimulatedNvml:
    if compiler() is None:
        pytest.skip("no C compiler")
    return SimulatedNvml(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def client(library: SimulatedNvml) -> Iterator[Client]:
    client = Client(library)
    yield client
    client.close()


@pytest.mark.slow
def test_what_the_driver_says_is_read_anew_each_time(client: Client) -> None:
    first = a_gpu(processes={4711: 18 * GIB, 4712: None})
    second = a_gpu(1, A100, "NVIDIA A100-SXM4-40GB", total_bytes=40 * GIB, used_bytes=GIB)
    client.nvml.says(first, second)
    state = client.read()
    assert state.gpus == (first, second)
    assert state.problem is None
    assert state.host_total_bytes == psutil.virtual_memory().total

    busier = replace(first, used_bytes=70 * GIB, utilization_percent=100)
    client.nvml.says(busier, second)
    assert client.read().gpus == (busier, second)


@pytest.mark.slow
def test_what_a_gpu_does_not_support_is_none_and_the_rest_is_there(client: Client) -> None:
    bare = GpuReading(0, A100, "NVIDIA GB10", processes={})
    client.nvml.says(bare)
    total = psutil.virtual_memory().total
    assert client.read().gpus == (replace(bare, total_bytes=total, used_bytes=0, shares_host_memory=True),)


@pytest.mark.slow
def test_a_lost_gpu_does_not_hide_its_neighbours(client: Client) -> None:
    client.nvml.says(a_gpu(0), a_gpu(1, A100), lost=frozenset({0}))
    lost, well = client.read().gpus
    assert (lost.used_bytes, lost.utilization_percent, lost.processes) == (None, None, {})
    assert lost.lost == "GPU is lost"
    assert well == a_gpu(1, A100)


@pytest.mark.slow
def test_a_driver_that_stops_answering_is_a_problem_until_it_answers_again(client: Client) -> None:
    client.nvml.says(a_gpu())
    assert client.read().problem is None
    client.nvml.says(init=18)
    state = client.read()
    assert [(gpu.uuid, gpu.used_bytes, gpu.lost) for gpu in state.gpus] == [(H100, None, "the driver doesn't answer")]
    assert state.problem is not None
    assert "mismatch" in state.problem
    client.nvml.says(a_gpu())
    state = client.read()
    assert (state.gpus, state.problem) == ((a_gpu(),), None)


@pytest.mark.slow
def test_a_driver_that_is_not_loaded_is_a_problem(tmp_path: Path) -> None:
    if compiler() is None:
        pytest.skip("no C compiler")
    nvml = SimulatedNvml(tmp_path)
    nvml.says(init=9)
    client = Client(nvml)
    state = client.read()
    client.close()
    assert state.problem is not None
    assert "Driver Not Loaded" in state.problem


COMPUTE, GRAPHICS = PROCESS_CALLS


def versions(*suffixes: str) -> tuple[str, ...]:
    return tuple(call + suffix for call in PROCESS_CALLS for suffix in suffixes)


def read_by_a_library_without(directory: Path, functions: tuple[str, ...], *gpus: GpuReading) -> HardwareState:
    """What is read from such a driver."""
    if compiler() is None or sys.platform != "linux":
        pytest.skip("no C compiler whose linker hides functions")
    nvml = SimulatedNvml(directory, without=functions)
    nvml.says(*gpus)
    client = Client(nvml)
    state = client.read()
    client.close()
    return state


@pytest.mark.slow
@pytest.mark.parametrize("suffixes", [("_v3",), ("_v3", "_v2"), ("_v2",), ("_v2", ""), ("",)], ids=str)
def test_a_driver_is_asked_for_processes_in_a_version_that_it_has(tmp_path: Path, suffixes: tuple[str, ...]) -> None:
    gpu = a_gpu(processes={4711: 18 * GIB, 4712: None, 4713: GIB})
    state = read_by_a_library_without(tmp_path, versions(*suffixes), gpu)
    assert (state.gpus, state.problem) == ((gpu,), None)


@pytest.mark.slow
def test_a_driver_that_lists_no_processes_says_so_and_tells_the_rest(tmp_path: Path) -> None:
    state = read_by_a_library_without(tmp_path, versions("_v3", "_v2", ""), a_gpu(processes={4711: GIB}))
    assert state.gpus == (a_gpu(processes={}),)
    assert state.problem is not None
    assert COMPUTE in state.problem
    assert GRAPHICS in state.problem
    assert "unknown" in state.problem


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "lost"),
    [
        ("nvmlDeviceGetUtilizationRates", {"utilization_percent": None}),
        ("nvmlDeviceGetPowerUsage", {"power_watts": None}),
        ("nvmlDeviceGetName", {"name": "GPU"}),
        ("nvmlErrorString", {}),
    ],
)
def test_what_a_driver_has_no_function_for_is_unknown_and_said(tmp_path: Path, function: str, lost: dict[str, object]) -> None:
    state = read_by_a_library_without(tmp_path, (function,), a_gpu())
    assert state.gpus == (replace(a_gpu(), **lost),)
    assert (state.problem is None) == (not lost)
    assert not lost or function in (state.problem or "")


@pytest.mark.slow
@pytest.mark.parametrize("function", ["nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetTemperature", "nvmlDeviceGetTemperatureV"])
def test_where_another_function_tells_the_same_that_one_is_asked(tmp_path: Path, function: str) -> None:
    state = read_by_a_library_without(tmp_path, (function,), a_gpu())
    assert (state.gpus, state.problem) == ((a_gpu(),), None)


@pytest.mark.slow
@pytest.mark.parametrize("function", ["nvmlDeviceGetCount_v2", "nvmlInitWithFlags"])
def test_a_driver_that_cannot_even_be_started_or_counted_is_a_problem(tmp_path: Path, function: str) -> None:
    state = read_by_a_library_without(tmp_path, (function,), a_gpu())
    assert state.gpus == ()
    assert "Function Not Found" in (state.problem or "")


@pytest.mark.slow
def test_the_table_is_printed_beside_a_driver_of_another_age(tmp_path: Path) -> None:
    if compiler() is None or sys.platform != "linux":
        pytest.skip("no C compiler whose linker hides functions")
    nvml = SimulatedNvml(tmp_path, without=versions("_v3", "_v2", ""))
    nvml.says(a_gpu())
    snapshots = tmp_path / "snapshots"
    snapshots.mkdir(mode=0o700)
    writer = published(snapshots, a_snapshot(a_model()))
    shown = subprocess.run(
        [sys.executable, "-m", "gpumodels_tui", "--once", "--dir", str(snapshots)],
        env=nvml.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    writer.abandon()
    assert "Traceback" not in shown.stderr
    assert "NVIDIA H100" in shown.stdout
    assert COMPUTE in shown.stderr


class FakeNvml(ModuleType):
    """The binding on a machine without the library."""

    class NVMLError(Exception):
        pass

    class NVMLError_LibraryNotFound(NVMLError):
        pass

    asked = 0

    @classmethod
    def nvmlInit(cls) -> None:
        cls.asked += 1
        raise cls.NVMLError_LibraryNotFound


def test_without_the_library_there_are_no_gpus_and_no_problem_and_it_is_not_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, BINDING, FakeNvml("nvml"))
    hardware = Hardware()
    for _ in range(3):
        state = hardware.read()
        assert (state.gpus, state.problem) == ((), None)
        assert state.host_used_bytes is not None
    assert FakeNvml.asked == 1
    hardware.close()


class BrokenNvml(ModuleType):
    """A binding that starts, and then raises something that isn't its own error at every call but the first few."""

    class NVMLError(Exception):
        pass

    @staticmethod
    def nvmlInit() -> None:
        pass

    @staticmethod
    def nvmlDeviceGetCount() -> int:
        return 1

    @staticmethod
    def nvmlDeviceGetHandleByIndex(index: int) -> object:
        return index

    @staticmethod
    def nvmlDeviceGetUUID(handle: object) -> str:
        return A100

    @staticmethod
    def nvmlDeviceGetUtilizationRates(handle: object) -> object:
        raise OSError("exception: access violation")

    @staticmethod
    def nvmlDeviceGetName(handle: object) -> str:
        return b"\xff".decode()

    @staticmethod
    def nvmlShutdown() -> None:
        raise AttributeError("nvmlShutdown")


def test_nothing_that_a_binding_raises_reaches_a_person(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, BINDING, BrokenNvml("nvml"))
    hardware = Hardware()
    states = [hardware.read() for _ in range(2)]
    hardware.close()
    assert [state.gpus for state in states] == [(GpuReading(0, A100, "GPU"),)] * 2
    problem = states[1].problem or ""
    assert "nvmlDeviceGetUtilizationRates (exception: access violation)" in problem
    assert problem.count("nvmlDeviceGetUtilizationRates") == 1


def test_a_binding_that_cannot_be_imported_is_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "half_a_binding.py").write_text("raise RuntimeError('half an installation')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(nvml_gpus, "BINDING", "half_a_binding")
    assert "half an installation" in (Hardware().read().problem or "")


def test_host_memory_is_what_the_kernel_says() -> None:
    state = host_memory_only()
    memory = psutil.virtual_memory()
    assert state.host_total_bytes == memory.total
    assert state.host_used_bytes is not None
    assert abs(state.host_used_bytes - (memory.total - memory.available)) < memory.total // 10


def test_gpus_of_all_vendors_have_numbers_of_their_own_and_pids_of_this_namespace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = FakeKernel(tmp_path)
    kernel.amd(0, "0000:03:00.0")
    kernel.amd(1, "0000:83:00.0")
    kernel.card(2, "0000:44:00.0", 0x8086, "xe")
    kernel.client(4711, 3, fdinfo("0000:83:00.0", 1, resident_vram="1 GiB"))
    monkeypatch.setattr(gpus, "sees_all_pids", lambda: False)
    hardware = Hardware(files=kernel.files)
    fake_nvml(monkeypatch, FakeGpu(H100, processes={4711: GIB}), FakeGpu(A100))
    state = hardware.read()
    assert [(gpu.index, gpu.vendor) for gpu in state.gpus] == [(0, NVIDIA), (1, NVIDIA), (2, AMD), (3, AMD), (4, INTEL)]
    assert [dict(gpu.processes) for gpu in state.gpus] == [{}, {}, {}, {4711: GIB}, {}]
    hardware.close()


def test_a_board_is_read_from_files_only_where_nvml_lists_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = FakeKernel(tmp_path)
    kernel.write("sys/devices/gpu.0/load", 100)
    nvml = fake_nvml(monkeypatch, FakeGpu(H100))
    assert [gpu.uuid for gpu in Hardware(files=kernel.files).read().gpus] == [H100]
    nvml.gpus.clear()
    assert [gpu.uuid for gpu in Hardware(files=kernel.files).read().gpus] == ["tegra:gpu"]
