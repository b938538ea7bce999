from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import psutil
import pytest
from msgspec.structs import replace

from gpumodels_tui.sources.gpus import GpuReading, Hardware, HardwareState
from nvml.simulation import SimulatedNvml, compiler
from snapshots import A100, GIB, a_gpu

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
        return HardwareState(**{**answer, "gpus": gpus, "running": {}})

    def close(self) -> None:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.close()
        self._child.wait(timeout=30)
        self._child.stdout.close()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    if compiler() is None:
        pytest.skip("no C compiler")
    client = Client(SimulatedNvml(tmp_path_factory.mktemp("nvml")))
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
    assert client.read().gpus == (bare,)


@pytest.mark.slow
def test_a_lost_gpu_does_not_hide_its_neighbours(client: Client) -> None:
    client.nvml.says(a_gpu(0), a_gpu(1, A100), lost=frozenset({0}))
    lost, well = client.read().gpus
    assert (lost.used_bytes, lost.utilization_percent, lost.processes) == (None, None, {})
    assert well == a_gpu(1, A100)


@pytest.mark.slow
def test_a_driver_that_stops_answering_is_a_problem_until_it_answers_again(client: Client) -> None:
    client.nvml.says(a_gpu())
    assert client.read().problem is None
    client.nvml.says(init=18)
    state = client.read()
    assert state.gpus == ()
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


class FakeNvml(ModuleType):
    """pynvml on a machine without the library."""

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
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml("pynvml"))
    hardware = Hardware()
    for _ in range(3):
        state = hardware.read()
        assert (state.gpus, state.problem) == ((), None)
        assert state.host_used_bytes is not None
    assert FakeNvml.asked == 1
    hardware.close()
