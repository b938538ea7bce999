"""What the accelerators' allocators say: counters kept by the host side of torch. No driver call, no initialisation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final, Protocol

ACCELERATORS: Final = ("cuda", "xpu")
"""torch modules whose allocators count on the host side: both answer from memory, and only once the host initialised them."""

MAX_DEVICES: Final = 64


@dataclass(frozen=True, slots=True)
class DeviceCounters:
    """One device as its allocator, or its simulation, sees it."""

    allocated_bytes: int | None = None
    reserved_bytes: int | None = None
    uuid: str | None = None
    name: str | None = None
    total_bytes: int | None = None
    simulated: bool = False


class DeviceSource(Protocol):
    """Where counters come from: torch, or a demonstration."""

    def counters(self) -> Mapping[str, DeviceCounters]:
        """By torch's device name, `cuda:0`; devices that nothing was ever allocated on are left out."""
        ...


class TorchDevices:
    """The allocators of the torch that the host imported."""

    def __init__(self, torch: ModuleType) -> None:
        self._torch = torch

    def counters(self) -> Mapping[str, DeviceCounters]:
        """By device; empty until the host itself has initialised an accelerator."""
        found: dict[str, DeviceCounters] = {}
        for kind in ACCELERATORS:
            module: Any = getattr(self._torch, kind, None)
            if module is None or not hasattr(module, "is_initialized") or not module.is_initialized():
                continue
            for index in range(MAX_DEVICES):
                try:
                    stats = module.memory_stats(index)
                except (RuntimeError, AssertionError):
                    break  # the allocator has no such device: asking for the count would be a driver call
                reserved = int(stats.get("reserved_bytes.all.current", 0))
                if reserved:
                    allocated = int(stats.get("allocated_bytes.all.current", 0))
                    found[f"{kind}:{index}"] = DeviceCounters(allocated, reserved)
        return found
