"""What is made of a single GPU's answers."""

from __future__ import annotations

import pytest

from fake_nvml import HOST_TOTAL, NO_PERMISSION, FakeGpu, Watched, a_divided_gpu
from snapshots import A100, GIB, H100


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(monkeypatch)


@pytest.mark.parametrize("ones", [2**32 - 1, 2**64 - 1])
def test_a_driver_that_answers_all_ones_says_nothing(watched: Watched, ones: int) -> None:
    gpu = watched.second
    gpu.utilization = gpu.temperature = gpu.milliwatts = gpu.total = gpu.used = ones
    gpu.processes = {4711: ones}
    reading = watched.read()[1]
    assert (reading.utilization_percent, reading.temperature_celsius, reading.power_watts) == (None, None, None)
    assert (reading.total_bytes, reading.used_bytes, reading.processes) == (None, None, {4711: None})
    assert not reading.shares_host_memory


def test_what_cannot_be_true_is_unknown(watched: Watched) -> None:
    gpu = watched.second
    gpu.utilization, gpu.temperature, gpu.milliwatts, gpu.used = 101, 201, 10_000_001, 41 * GIB
    gpu.processes = {4711: 41 * GIB, 4712: GIB}
    reading = watched.read()[1]
    assert (reading.utilization_percent, reading.temperature_celsius, reading.power_watts) == (None, None, None)
    assert (reading.total_bytes, reading.used_bytes, reading.processes) == (40 * GIB, None, {4711: None, 4712: GIB})


@pytest.mark.parametrize(
    ("processes", "refused", "used"),
    [
        ({7: 9 * GIB, 8: GIB}, {}, 10 * GIB),
        ({}, {}, 0),
        ({7: 9 * GIB, 8: 2**64 - 1}, {}, None),
        ({7: 200 * GIB, 8: 200 * GIB}, {}, None),
        ({}, {"processes": 3}, None),
    ],
)
def test_a_gpu_without_memory_of_its_own_uses_the_machines(
    monkeypatch: pytest.MonkeyPatch, processes: dict[int, int], refused: dict[str, int], used: int | None
) -> None:
    gpu = FakeGpu(H100, "NVIDIA GB10", processes=processes, refused={"memory": 3, **refused})
    (reading,) = Watched(monkeypatch, gpu).read()
    assert (reading.total_bytes, reading.used_bytes, reading.shares_host_memory) == (HOST_TOTAL, used, True)


def test_memory_that_may_not_be_asked_for_is_unknown_and_not_the_machines(watched: Watched) -> None:
    watched.second.refused = {"memory": NO_PERMISSION}
    reading = watched.read()[1]
    assert (reading.total_bytes, reading.used_bytes, reading.shares_host_memory, reading.lost) == (None, None, False, None)


def test_a_slice_is_a_device_below_its_gpu_with_a_total_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = Watched(monkeypatch, a_divided_gpu(), FakeGpu(A100)).read()
    assert [(gpu.uuid, gpu.index, gpu.parent, gpu.parent_index, gpu.total_bytes, gpu.is_divided) for gpu in gpus] == [
        (H100, 0, None, None, 80 * GIB, True),
        ("MIG-1", 0, H100, 0, 10 * GIB, False),
        ("MIG-2", 1, H100, 0, 20 * GIB, False),
        (A100, 1, None, None, 80 * GIB, False),
    ]
    assert [dict(gpu.processes) for gpu in gpus[:2]] == [{8: GIB}, {7: GIB}]


def test_memory_figures_that_a_divided_gpu_refuses_are_not_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = a_divided_gpu()
    gpu.refused = {"memory": 3}
    reading = Watched(monkeypatch, gpu).read()[0]
    assert (reading.total_bytes, reading.shares_host_memory) == (None, False)
