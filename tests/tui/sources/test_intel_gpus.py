from __future__ import annotations

from pathlib import Path

from gpumodels_tui.sources.gpu_reading import INTEL, GpuReading
from gpumodels_tui.sources.intel_gpus import IntelGpus
from snapshots import GIB
from sysfs import ARC, FakeKernel, fdinfo

CARD, OWN = "0000:03:00.0", "0000:00:02.0"


def read(kernel: FakeKernel) -> tuple[GpuReading, ...]:
    gpus, problems = IntelGpus(kernel.files, lambda: 0.0).read(64 * GIB)
    assert problems == ()
    return gpus


def test_a_card_of_xe_has_its_tiles_memory_and_its_processes(tmp_path: Path) -> None:
    kernel = FakeKernel(tmp_path)
    bus = kernel.card(0, CARD, 0x8086, "xe", ARC)
    kernel.write(f"{bus}/tile0/physical_vram_size_bytes", 16 * GIB)
    kernel.write(f"{bus}/tile1/physical_vram_size_bytes", 16 * GIB)
    kernel.write(f"{bus}/hwmon/hwmon1/temp2_input", 48_000)
    kernel.client(4711, 9, fdinfo(CARD, 3, resident_vram0="5 GiB", resident_gtt="1 GiB"))
    (gpu,) = read(kernel)
    assert (gpu.vendor, gpu.total_bytes, gpu.used_bytes, gpu.temperature_celsius) == (INTEL, 32 * GIB, None, 48)
    assert (gpu.processes, gpu.shares_host_memory, gpu.uuid) == ({4711: 5 * GIB}, False, f"pci:{CARD}")


def test_a_card_of_i915_tells_what_is_free_where_it_can(tmp_path: Path) -> None:
    kernel = FakeKernel(tmp_path)
    kernel.card(0, CARD, 0x8086, "i915", ARC)
    assert [(gpu.total_bytes, gpu.used_bytes) for gpu in read(kernel)] == [(None, None)]
    kernel.write("sys/devices/pci0000:00/lmem_total_bytes", 1)  # of nobody
    (card,) = tmp_path.glob("sys/class/drm/card0")
    (card / "lmem_total_bytes").write_text(str(16 * GIB))
    (card / "lmem_avail_bytes").write_text(str(11 * GIB))
    kernel.client(4711, 9, fdinfo(CARD, 3, resident_local0="4 GiB"))
    assert [(gpu.total_bytes, gpu.used_bytes, gpu.processes) for gpu in read(kernel)] == [(16 * GIB, 5 * GIB, {4711: 4 * GIB})]


def test_a_processors_own_gpu_uses_the_machines_memory(tmp_path: Path) -> None:
    kernel = FakeKernel(tmp_path)
    kernel.card(0, OWN, 0x8086, "i915", 0x9A49)
    kernel.client(4711, 9, fdinfo(OWN, 3, resident_system0="300 MiB"))
    (gpu,) = read(kernel)
    assert (gpu.shares_host_memory, gpu.total_bytes, gpu.used_bytes) == (True, 64 * GIB, None)
    assert gpu.processes == {4711: 300 * 1024**2}
