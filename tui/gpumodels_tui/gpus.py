"""The devices as the driver and the kernel see them: NVML's GPUs, and host memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One GPU at one moment; what the driver doesn't say is None."""

    index: int
    """NVML's, in PCI bus order."""
    uuid: str
    name: str
    total_bytes: int | None = None
    used_bytes: int | None = None
    utilization_percent: int | None = None
    temperature_celsius: int | None = None
    power_watts: float | None = None
    processes: Mapping[int, int | None] = field(default_factory=dict)
    """Bytes by pid, as the driver counts them; None where it doesn't."""


@dataclass(frozen=True, slots=True)
class HardwareState:
    """All devices at one moment."""

    gpus: tuple[GpuReading, ...] = ()
    host_total_bytes: int | None = None
    host_used_bytes: int | None = None
    problem: str | None = None
    """Why NVML says nothing, where a driver is there but doesn't answer; a machine without one is no problem."""
