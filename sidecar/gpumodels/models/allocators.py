"""The counters of the accelerators' allocators. Torch keeps them in host memory: no driver call, no initialisation."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, Final, Protocol

from gpumodels.models.training_state import NonModelBytes
from gpumodels.support.accelerators import APPLE, ASKING_THE_DRIVER, apple_module, counted_accelerators, initialised_module
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.torch_private import cuda_allocator
from gpumodels_shared.schema import DeviceMemory, Model

MAX_DEVICES: Final = 64
SINGLE: Final = frozenset({"hpu"})
"""Kinds of which a process has one device, whatever number it is asked for."""
COUNTED: Final = ("reserved_bytes.all.current", "allocated_bytes.all.current", "num_ooms", "allocation.all.allocated")
NOTHING: Final[Mapping[str, int]] = {}


@never_pickled
@dataclass(frozen=True, slots=True)
class DeviceCounters:
    """One device's memory according to its allocator, or to a simulation."""

    allocated_bytes: int | None = None
    reserved_bytes: int | None = None
    uuid: str | None = None
    name: str | None = None
    total_bytes: int | None = None
    simulated: bool = False
    out_of_memory_count: int | None = None
    allocation_count: int | None = None
    """How many allocations there were since the process started."""


class DeviceSource(Protocol):
    """Where counters come from: torch, or a simulation."""

    def counters(self, in_use: Collection[str] = ()) -> Mapping[str, DeviceCounters]:
        """By torch's device name, `cuda:0`; without devices on which nothing was ever allocated.

        Args:
            in_use: the devices that hold models.
        """
        ...


@never_pickled
class TorchDevices:
    """The allocators of the torch that the host imported."""

    def __init__(self, torch: ModuleType) -> None:
        self._torch = torch

    def counters(self, in_use: Collection[str] = ()) -> Mapping[str, DeviceCounters]:
        """By device name; empty until the host itself has initialised an accelerator."""
        found: dict[str, DeviceCounters] = {}
        for kind in counted_accelerators(self._torch):
            module: Any = initialised_module(self._torch, kind)
            if module is None or (kind == "cuda" and cuda_allocator(self._torch) in ASKING_THE_DRIVER):
                continue
            for index in range(1 if kind in SINGLE else MAX_DEVICES):
                try:
                    stats = module.memory_stats(index)
                except (RuntimeError, AssertionError, IndexError, ValueError):
                    break  # the allocator has no such device: asking for the count would be a driver call
                counted = _counted(stats)
                if counted.reserved_bytes or counted.allocated_bytes or counted.out_of_memory_count:
                    found[f"{kind}:{index}"] = counted
        if (module := apple_module(self._torch, in_use)) is not None and (device := _apple_device(in_use)) is not None:
            try:
                found[device] = DeviceCounters(int(module.current_allocated_memory()))
            except Exception:  # noqa: BLE001  # it counts otherwise: that is unknown
                return found
        return found


def _counted(stats: Mapping[str, Any]) -> DeviceCounters:
    """What one device's allocator counts, in torch's words or in Habana's. What it doesn't count is None."""
    if "reserved_bytes.all.current" not in stats and "InUse" in stats:
        return DeviceCounters(int(stats["InUse"]))
    reserved, allocated, ooms, count = map(stats.get, COUNTED)
    return DeviceCounters(
        allocated_bytes=int(allocated) if allocated is not None else None,
        reserved_bytes=int(reserved) if reserved is not None else None,
        out_of_memory_count=int(ooms) if ooms is not None else None,
        allocation_count=int(count) if count is not None else None,
    )


def _awake(counted: DeviceCounters, asleep_bytes: int, of_models: int) -> DeviceCounters:
    """The counters without what sleeps. How much of that is allocated is known of models only, and is at most all of it."""
    if not asleep_bytes or counted.reserved_bytes is None:
        return counted
    reserved = max(0, counted.reserved_bytes - asleep_bytes)
    allocated = counted.allocated_bytes
    return replace(
        counted,
        reserved_bytes=reserved,
        allocated_bytes=None if allocated is None else min(max(0, allocated - of_models), reserved),
    )


def _apple_device(in_use: Collection[str]) -> str | None:
    return next((device for device in sorted(in_use) if device.partition(":")[0] == APPLE), None)


def device_memory(
    models: Sequence[Model],
    parts: NonModelBytes | None,
    counters: Mapping[str, DeviceCounters],
    outside_torch: Mapping[str, int] = NOTHING,
    asleep: Mapping[str, int] = NOTHING,
) -> tuple[DeviceMemory, ...]:
    """The memory of each device that holds a model or that an allocator has counters for, divided by use.

    Allocated bytes that belong to no model, gradient, optimizer or cache are `other_bytes`: activations, tensors that no module
    holds, and what the allocator adds by rounding every tensor up to 512 bytes.

    Args:
        models: the models as they are published.
        parts: what is held beside them; None if it wasn't measured yet.
        counters: by device, what torch's allocator counts.
        outside_torch: by device, what the host allocated for models beside that allocator. It is divided by use as well: what
            of it no model has, such as the rest of a page, is other.
        asleep: by device, what torch's allocator still counts there, but isn't there: it is left out, as the driver does.
    """
    held: dict[str, int] = {}
    slept: dict[str, int] = {}
    for model in models if asleep else ():
        if model.asleep_bytes and model.device is not None:
            slept[model.device] = slept.get(model.device, 0) + model.asleep_bytes
    for model in models:
        for device, size in model.bytes_by_device.items():
            held[device] = held.get(device, 0) + size
    devices = held.keys() | counters.keys() | outside_torch.keys()
    devices |= {model.device for model in models if model.dynamic_memory and model.device is not None}  # maybe all on disk now
    if parts is not None:
        devices |= parts.gradients.keys() | parts.optimizer.keys() | parts.caches.keys() | parts.held_by_functions.keys()
    found: list[DeviceMemory] = []
    for device in sorted(devices):
        counted = _awake(counters.get(device, DeviceCounters()), asleep.get(device, 0), slept.get(device, 0))
        claimed = [held.get(device, 0)]
        if parts is not None:
            claimed += [part.get(device, 0) for part in (parts.gradients, parts.optimizer, parts.caches)]
        is_complete = parts is not None and counted.allocated_bytes is not None
        allocated = (counted.allocated_bytes or 0) + outside_torch.get(device, 0)
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
                held_by_functions=dict(parts.held_by_functions.get(device, {})) if parts is not None else {},
                asleep_bytes=asleep.get(device, 0),
                out_of_memory_count=counted.out_of_memory_count,
                other_bytes=max(0, allocated - sum(claimed)) if is_complete else None,
            )
        )
    return tuple(found)
