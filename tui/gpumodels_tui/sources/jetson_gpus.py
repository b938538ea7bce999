"""The GPU of NVIDIA's Jetson boards where NVML doesn't know it: JetPack before 6, and containers without its library."""

from __future__ import annotations

from typing import Final

from gpumodels_tui.sources.figures import MOST_CELSIUS, MOST_PERCENT
from gpumodels_tui.sources.gpu_reading import NVIDIA, UNNAMED, GpuReading
from gpumodels_tui.sources.kernel_files import KernelFiles

MODEL: Final = ("proc/device-tree/model", "sys/firmware/devicetree/base/model")
LOADS: Final = (
    "sys/devices/gpu.0/load",
    "sys/devices/platform/gpu.0/load",
    "sys/devices/platform/*.gpu/load",
    "sys/devices/platform/bus@0/*.gpu/load",
    "sys/devices/*.gpu/load",
)
"""Where the driver nvgpu tells its load, in tenths of a percent: TX1 to Xavier, and Orin under Linux 5 and 6."""


class JetsonGpus:
    """Reads the one GPU that a board has. It uses the machine's memory."""

    def __init__(self, files: KernelFiles) -> None:
        self._files = files

    def read(self, host_total_bytes: int | None) -> tuple[tuple[GpuReading, ...], tuple[str, ...]]:
        """The GPU; none on other machines."""
        load = next((path for pattern in LOADS for path in self._files.found(pattern)), None)
        if load is None:
            return (), ()
        tenths = self._files.number(load, MOST_PERCENT * 10)
        model = next((text for path in MODEL if (text := self._files.text(self._files.root / path))), None)
        gpu = GpuReading(
            index=0,
            uuid="tegra:gpu",
            name=model or UNNAMED,
            total_bytes=host_total_bytes,
            utilization_percent=None if tenths is None else round(tenths / 10),
            temperature_celsius=self._temperature(),
            shares_host_memory=True,
            vendor=NVIDIA,
            runtime_index=0,
        )
        return (gpu,), ()

    def close(self) -> None:
        """Nothing is kept open."""

    def _temperature(self) -> int | None:
        for zone in self._files.found("sys/class/thermal/thermal_zone*"):
            if (self._files.text(zone / "type") or "").lower() in ("gpu-thermal", "gpu-therm"):
                thousandths = self._files.number(zone / "temp", MOST_CELSIUS * 1000)
                return None if thousandths is None else round(thousandths / 1000)
        return None
