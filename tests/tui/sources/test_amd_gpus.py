from __future__ import annotations

from pathlib import Path

import pytest

from gpumodels_tui.sources import kfd_nodes as kfd
from gpumodels_tui.sources.amd_gpus import AmdGpus
from gpumodels_tui.sources.gpu_reading import AMD, GpuReading
from snapshots import GIB
from sysfs import FakeKernel, fdinfo

FIRST, SECOND = "0000:03:00.0", "0000:83:00.0"


def read(kernel: FakeKernel) -> tuple[GpuReading, ...]:
    gpus, problems = AmdGpus(kernel.files, lambda: 0.0).read(256 * GIB)
    assert problems == ()
    return gpus


def test_a_gpu_is_read_whole_from_sysfs(tmp_path: Path) -> None:
    kernel = FakeKernel(tmp_path)
    kernel.amd(0, FIRST, unique_id="9D7F8B5C4A3E2F10")
    kernel.client(4711, 9, fdinfo(FIRST, 12, memory_vram="2 GiB"))
    assert read(kernel) == (
        GpuReading(
            index=0,
            uuid="GPU-9d7f8b5c4a3e2f10",
            name="GPU",
            total_bytes=24 * GIB,
            used_bytes=3 * GIB,
            utilization_percent=41,
            temperature_celsius=56,
            power_watts=213.0,
            processes={4711: 2 * GIB},
            vendor=AMD,
            pci_address=FIRST,
            runtime_index=0,
        ),
    )


def test_numbers_of_rocm_are_its_own_and_known_only_from_it(tmp_path: Path) -> None:
    kernel = FakeKernel(tmp_path)
    kernel.amd(0, FIRST)
    kernel.amd(1, SECOND)
    assert [gpu.runtime_index for gpu in read(kernel)] == [None, None]
    kernel.node(1, 7002, 0x8300)
    kernel.node(2, 7001, 0x0300)
    assert [(gpu.index, gpu.uuid, gpu.runtime_index) for gpu in read(kernel)] == [(0, f"pci:{FIRST}", 1), (1, f"pci:{SECOND}", 0)]


def test_compute_memory_that_only_kfd_tells_is_taken_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kfd, "sees_all_pids", lambda: True)
    kernel = FakeKernel(tmp_path)
    kernel.amd(0, FIRST)
    kernel.node(1, 7001, 0x0300)
    kernel.client(1, 9, fdinfo(FIRST, 12, memory_vram="2 GiB"))
    kernel.client(2, 9, fdinfo(FIRST, 13))
    for pid, size in ((1, GIB), (2, GIB), (3, 99 * GIB)):
        kernel.write(f"sys/class/kfd/kfd/proc/{pid}/vram_7001", size)
    assert read(kernel)[0].processes == {1: 2 * GIB, 2: GIB, 3: None}


@pytest.mark.parametrize("board", ["0", "0000000000000000", "not a number", "12345"])
def test_a_board_without_a_number_is_known_by_its_address(board: str, tmp_path: Path) -> None:
    kernel = FakeKernel(tmp_path)
    kernel.amd(0, FIRST, unique_id=board)
    assert [gpu.uuid for gpu in read(kernel)] == [f"pci:{FIRST}"]


def test_figures_that_the_driver_refuses_or_that_cannot_be_are_unknown(tmp_path: Path) -> None:
    kernel = FakeKernel(tmp_path)
    bus = kernel.amd(0, FIRST, used=25 * GIB)
    kernel.write(f"{bus}/gpu_busy_percent", 65535)
    (tmp_path / f"{bus}/hwmon/hwmon3/temp1_input").unlink()
    (gpu,) = read(kernel)
    assert (gpu.total_bytes, gpu.used_bytes, gpu.utilization_percent, gpu.temperature_celsius) == (24 * GIB, None, None, None)


def test_a_machine_without_amds_gpus_has_none(tmp_path: Path) -> None:
    assert read(FakeKernel(tmp_path)) == ()
