"""Whether the viewer shows of the GPUs what the driver's own tool says, and nvitop where it is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, Final

from gpu_check.machine import Machine, Row
from gpumodels_tui.sources.gpu_reading import GpuReading
from nvml import simulation

MIB: Final = 1024**2
SLACK: Final = 64 * MIB
"""What may come and go between two questions."""
SIMULATED: Final = (
    GpuReading(0, "GPU-00000000-0000-0000-0000-000000000001", "Simulated card", 80 * 1024 * MIB, 7 * 1024 * MIB, 31, 44, 120.0),
)
NVIDIA_SMI: Final = ("nvidia-smi", "--query-gpu=uuid,memory.total,memory.used", "--format=csv,noheader,nounits")
NVITOP: Final = """
import json
from nvitop import Device
print(json.dumps({device.uuid(): [device.memory_total(), device.memory_used()] for device in Device.all()}))
"""

Figures = Mapping[str, tuple[int, int]]
"""By UUID: total and used bytes."""


def check(machine: Machine) -> list[Row]:
    """The document of `--json`, against nvidia-smi, or what the simulated driver was told; then against nvitop."""
    environment = {**os.environ, "GPUMODELS_DIR": str(machine.directory / "screen")}
    if machine.is_simulated:
        if simulation.compiler() is None:
            return [Row("screen", "GPUs as the driver says", "the simulated driver needs a C compiler", None)]
        directory = machine.directory / "nvml"
        directory.mkdir()
        driver = simulation.SimulatedNvml(directory)
        driver.says(*SIMULATED)
        environment |= {key: value for key, value in driver.environment().items() if key in ("LD_LIBRARY_PATH", "SIMULATED_NVML")}
        truth: Figures = {gpu.uuid: (gpu.total_bytes or 0, gpu.used_bytes or 0) for gpu in SIMULATED}
    else:
        truth = of_nvidia_smi(_run(NVIDIA_SMI, environment))
    shown = of_json(json.loads(_run((sys.executable, "-m", "gpumodels_tui", "--json"), environment)))
    rows = [Row("screen", "GPUs as the driver says", differences(shown, truth) or f"{len(truth)} equal", shown_as(shown, truth))]
    if find_spec("nvitop") is None:
        return [*rows, Row("screen", "GPUs as nvitop says", "nvitop is not installed", None)]
    of_nvitop = {
        uuid: (total, used) for uuid, (total, used) in json.loads(_run((sys.executable, "-c", NVITOP), environment)).items()
    }
    said = differences(shown, of_nvitop) or f"{len(of_nvitop)} equal"
    return [*rows, Row("screen", "GPUs as nvitop says", said, shown_as(shown, of_nvitop))]


def of_nvidia_smi(text: str) -> Figures:
    """The figures in its CSV, which are MiB."""
    fields = [[field.strip() for field in line.split(",")] for line in text.splitlines() if line.strip()]
    return {uuid: (int(total) * MIB, int(used) * MIB) for uuid, total, used in fields if total.isdecimal() and used.isdecimal()}


def of_json(document: Mapping[str, Any]) -> Figures:
    """The GPUs of `--json` that are no slices of others."""
    gpus = [gpu for gpu in document["gpus"] if gpu["parent"] is None and gpu["total_bytes"] is not None]
    return {gpu["uuid"]: (gpu["total_bytes"], gpu["used_bytes"] or 0) for gpu in gpus}


def shown_as(shown: Figures, truth: Figures) -> bool:
    """Whether all GPUs are there with these figures, but for a little memory that comes and goes."""
    return shown.keys() == truth.keys() and not differences(shown, truth)


def differences(shown: Figures, truth: Figures) -> str:
    """In words; empty if there are none."""
    found = [f"{uuid} missing" for uuid in truth if uuid not in shown] + [
        f"{uuid} unknown" for uuid in shown if uuid not in truth
    ]
    for uuid in shown.keys() & truth.keys():
        for what, one, other in zip(("total", "used"), shown[uuid], truth[uuid], strict=True):
            if abs(one - other) > SLACK:
                found.append(f"{uuid}: {what} {one:,}, is {other:,}")
    return "; ".join(found)


def _run(command: tuple[str, ...], environment: Mapping[str, str]) -> str:
    """Its output; of `--json`, too, which ends with 1 where no process has a sidecar."""
    return subprocess.run(command, env=dict(environment), capture_output=True, text=True, timeout=60, check=False).stdout
