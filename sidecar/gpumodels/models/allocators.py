"""What the accelerators' allocators say: counters kept by the host side of torch. No driver call, no initialisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final, Protocol

from gpumodels.models.training_state import Parts
from gpumodels.support.accelerators import ACCELERATORS
from gpumodels.support.resident import resident
from gpumodels_shared.schema import DeviceMemory, Model

MAX_DEVICES: Final = 64


@resident
@dataclass(frozen=True, slots=True)
class DeviceCounters:
    """One device as its allocator, or its simulation, sees it."""

    allocated_bytes: int | None = None
    reserved_bytes: int | None = None
    uuid: str | None = None
    name: str | None = None
    total_bytes: int | None = None
    simulated: bool = False
    out_of_memory_count: int | None = None


class DeviceSource(Protocol):
    """Where counters come from: torch, or a demonstration."""

    def counters(self) -> Mapping[str, DeviceCounters]:
        """By torch's device name, `cuda:0`; devices that nothing was ever allocated on are left out."""
        ...


@resident
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
                gave_up = stats.get("num_ooms")
                if reserved or gave_up:
                    found[f"{kind}:{index}"] = DeviceCounters(
                        allocated_bytes=int(stats.get("allocated_bytes.all.current", 0)),
                        reserved_bytes=reserved,
                        out_of_memory_count=None if gave_up is None else int(gave_up),
                    )
        return found


def device_memory(
    models: Sequence[Model], parts: Parts | None, counters: Mapping[str, DeviceCounters]
) -> tuple[DeviceMemory, ...]:
    """Each device that holds anything, or that its allocator counts something on, and what is what there.

    What an allocator counts and nobody claims is `other`: activations, and tensors that no module holds. The allocator rounds
    every tensor up to 512 bytes; that is in there too.
    """
    held: dict[str, int] = {}
    for model in models:
        for device, size in model.bytes_by_device.items():
            held[device] = held.get(device, 0) + size
    named = held.keys() | counters.keys()
    if parts is not None:
        named |= parts.gradients.keys() | parts.optimizer.keys() | parts.caches.keys()
    found: list[DeviceMemory] = []
    for device in sorted(named):
        counted = counters.get(device, DeviceCounters())
        claimed = [held.get(device, 0)]
        if parts is not None:
            claimed += [part.get(device, 0) for part in (parts.gradients, parts.optimizer, parts.caches)]
        knows_all = parts is not None and counted.allocated_bytes is not None
        found.append(
            DeviceMemory(
                device=device,
                models_bytes=claimed[0],
                uuid=counted.uuid,
                name=counted.name,
                total_bytes=counted.total_bytes,
                simulated=counted.simulated,
                allocated_bytes=counted.allocated_bytes,
                reserved_bytes=counted.reserved_bytes,
                gradients_bytes=claimed[1] if parts is not None else None,
                optimizer_bytes=claimed[2] if parts is not None else None,
                cache_bytes=claimed[3] if parts is not None else None,
                out_of_memory_count=counted.out_of_memory_count,
                other_bytes=max(0, (counted.allocated_bytes or 0) - sum(claimed)) if knows_all else None,
            )
        )
    return tuple(found)
