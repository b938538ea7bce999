from __future__ import annotations

from pathlib import Path

import pytest

from gpumodels_tui.sources.jetson_gpus import JetsonGpus
from snapshots import GIB
from sysfs import FakeKernel


@pytest.mark.parametrize("place", ["gpu.0", "platform/gpu.0", "17000000.gpu", "platform/bus@0/17000000.gpu"])
def test_a_boards_gpu_uses_the_machines_memory(place: str, tmp_path: Path) -> None:
    kernel = FakeKernel(tmp_path)
    kernel.write(f"sys/devices/{place}/load", 874)
    kernel.write("proc/device-tree/model", "NVIDIA Jetson AGX Orin Developer Kit\0")
    kernel.write("sys/class/thermal/thermal_zone0/type", "cpu-thermal")
    kernel.write("sys/class/thermal/thermal_zone1/type", "gpu-thermal")
    kernel.write("sys/class/thermal/thermal_zone1/temp", 47_250)
    (gpu,), problems = JetsonGpus(kernel.files).read(64 * GIB)
    assert (gpu.name, gpu.total_bytes, gpu.used_bytes) == ("NVIDIA Jetson AGX Orin Developer Kit", 64 * GIB, None)
    assert (gpu.utilization_percent, gpu.temperature_celsius, gpu.shares_host_memory) == (87, 47, True)
    assert problems == ()


def test_other_machines_have_no_such_gpu(tmp_path: Path) -> None:
    assert JetsonGpus(FakeKernel(tmp_path).files).read(64 * GIB) == ((), ())
