from __future__ import annotations

import pytest

from gpumodels_shared.schema import DeviceMemory
from gpumodels_tui.view.device_names import join_devices
from gpumodels_tui.view.outside_torch import missing_from_device, outside_torch, used_by
from gpumodels_tui.view.process_rows import attached_row
from snapshots import GIB, H100, a_device, a_feed, a_gpu, a_process_state, a_snapshot, some_hardware


@pytest.mark.parametrize(
    ("reserved", "used", "outside", "missing"),
    [(6 * GIB, 7 * GIB, GIB, 0), (6 * GIB, 2 * GIB, None, 4 * GIB), (None, GIB, None, 0), (GIB, None, None, 0), (GIB, GIB, 0, 0)],
)
def test_the_drivers_figure_and_torchs_are_compared(
    reserved: int | None, used: int | None, outside: int | None, missing: int
) -> None:
    memory = DeviceMemory("cuda:0", 0, reserved_bytes=reserved)
    assert (outside_torch(memory, used), missing_from_device(memory, used)) == (outside, missing)


def test_the_drivers_figure_is_taken_where_one_device_of_the_process_is_that_gpu() -> None:
    process = a_process_state(a_snapshot(devices=[a_device("cuda:0", GIB)]))
    hardware = some_hardware(a_gpu(0, H100, processes={4711: 3 * GIB}))
    joined = join_devices(a_feed(process), hardware)
    assert used_by(process, "cuda:0", joined, hardware.gpus) == 3 * GIB
    assert used_by(process, "cuda:1", joined, hardware.gpus) is None
    twice = a_process_state(a_snapshot(devices=[a_device("cuda:0", GIB, H100), a_device("cuda:1", GIB, H100)]))
    joined = join_devices(a_feed(twice), hardware)
    assert used_by(twice, "cuda:0", joined, hardware.gpus) is None


def test_what_an_allocator_took_away_without_a_trace_is_told_by_the_drivers_figure() -> None:
    device = a_device("cuda:0", 20 * GIB, allocated_bytes=20 * GIB, reserved_bytes=22 * GIB)
    process = a_process_state(a_snapshot(devices=[device]))
    for used, missing in ((23 * GIB, 0), (4 * GIB, 18 * GIB)):
        hardware = some_hardware(a_gpu(0, H100, processes={4711: used}))
        joined = join_devices(a_feed(process), hardware)
        named = {"cuda:0": joined.devices[0]}
        row = attached_row(process, named, [], {"cuda:0": used_by(process, "cuda:0", joined, hardware.gpus)})
        assert [one.missing_bytes for one in row.devices] == [missing]
