"""What torch has tensors in and isn't this process's memory on a device: what sleeps, and what other processes own. Plain data.

vLLM's sleep mode takes memory away (`vllm.device_allocator.cumem.CuMemAllocator`): the addresses stay, the memory behind them is
given back to the driver, and its contents are copied to host memory or discarded. Its table tells which: an allocation
with a copy sleeps; one that says that it isn't mapped, without a copy, was discarded. Versions that don't say so tell nothing of
what was discarded, which then counts as before. What other processes own counts there.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from gpumodels.models.assembling import FoundModel
from gpumodels.models.imported_memory import imported_storages
from gpumodels.models.paged_weights import HOST, TreeMemory, with_memory
from gpumodels.observing.module_registry import ModuleRegistry
from gpumodels.support.failures import Failures
from gpumodels.support.instances import state_of
from gpumodels.support.module_tables import entries_of, tables_of
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.slices import in_slices
from gpumodels.tensors.tensor_storages import META, TensorReader

ALLOCATORS: Final = (
    ("vllm.device_allocator.cumem", "CuMemAllocator", "cuda"),
    ("vllm_ascend.device_allocator.camem", "CaMemAllocator", "npu"),
)
"""Modules and classes whose `instance` keeps `pointer_to_data`, and what torch calls their devices."""
MOST_ALLOCATIONS: Final = 1_000_000
ROWS_PER_STEP: Final = 16
IN_HOST: Final = "host"
DISCARDED: Final = "discarded"
IMPORTED: Final = "another process"


@never_pickled
class Asleep(NamedTuple):
    """One allocation that sleeps."""

    start: int
    size_bytes: int
    device: str
    place: str
    """Where its contents are: `host`, `discarded`."""


@never_pickled
class SleepingMemory:
    """Finds what sleeps, and divides the models of a scan accordingly.

    Args:
        registry: the live modules.
        tensor_reader: reads their tensors.
        failures: where what can't be read is counted.
        address_of: where a storage's memory is; torch's own answer, which is no driver call.
    """

    def __init__(
        self,
        registry: ModuleRegistry,
        tensor_reader: TensorReader,
        failures: Failures,
        address_of: Callable[[Any], int] | None = None,
    ) -> None:
        self._registry = registry
        self._failures = failures
        self._tensor_reader = tensor_reader
        self._address_of: Callable[[Any], int] = address_of or tensor_reader.torch.UntypedStorage.data_ptr
        self._allocations: tuple[Asleep, ...] = ()
        self._imported: frozenset[int] = frozenset()
        """Identities of the storages that other processes own."""
        self.shown: Mapping[FoundModel, FoundModel] = {}
        """By model of the scan, the same model as it is to be shown; those that have all of their memory are left out."""
        self.asleep: Mapping[str, int] = {}
        """By device, the bytes that torch's allocator counts but that aren't there."""
        self._divided: dict[FoundModel, FoundModel | None] = {}

    def update(self, models: Sequence[FoundModel], pause: Callable[[], None]) -> None:
        """Ask which allocations sleep, and divide these models accordingly.

        Args:
            models: the scan's.
            pause: called between slices, while no module or tensor is held; sleeps.
        """
        allocations: tuple[Asleep, ...] = ()
        with self._failures.guard("reading which memory sleeps"):
            allocations = tuple(sorted(one for named in ALLOCATORS for one in _asleep_in(*named)))
        imported: frozenset[int] = frozenset()
        with self._failures.guard("reading which memory is another process's"):
            imported = imported_storages()
        if (allocations, imported) != (self._allocations, self._imported):
            self._allocations, self._imported, self._divided = allocations, imported, {}
            self.asleep = _by_device(allocations)
        if not allocations and not imported:
            self.shown, self._divided = {}, {}
            return
        divided: dict[FoundModel, FoundModel | None] = {}
        in_slices(self._divide_all(models, divided), pause)
        self._divided = divided
        self.shown = {model: shown for model, shown in divided.items() if shown is not None}

    def _divide_all(self, models: Sequence[FoundModel], divided: dict[FoundModel, FoundModel | None]) -> Iterator[None]:
        starts = [one.start for one in self._allocations]
        for model in models:
            if model in self._divided:
                divided[model] = self._divided[model]
                continue
            moved: dict[tuple[int, str, str, str], int] = {}
            seen = set(model.counted_elsewhere)
            for row, key in enumerate(model.keys):
                with self._failures.guard("reading which of a module's memory sleeps"):
                    self._add_module(key, row, starts, seen, moved)
                if row % ROWS_PER_STEP == 0:
                    yield
            divided[model] = _divided(model, moved) if moved else None
            yield

    def _add_module(
        self, key: int, row: int, starts: list[int], seen: set[tuple[str, int]], moved: dict[tuple[int, str, str, str], int]
    ) -> None:
        """Add the bytes of a module's own tensors that sleep, by row, device, dtype and where they are."""
        ref = self._registry.ref(key) if key else None
        module = ref() if ref is not None else None
        if module is None:
            return
        tables = tables_of(state_of(module))
        for _, tensor in (*entries_of(tables.parameters), *entries_of(tables.buffers)):
            for (device, identity), dtype, size, address in self._tensor_reader.addresses(tensor, self._address_of):
                is_imported = identity in self._imported and device != HOST
                place = IMPORTED if is_imported else self._place_of(device, address, starts)
                if place is None or (device, identity) in seen:
                    continue
                seen.add((device, identity))
                moved[row, device, dtype, place] = moved.get((row, device, dtype, place), 0) + size

    def _place_of(self, device: str, address: int, starts: list[int]) -> str | None:
        """Where the contents of this address are, if it sleeps."""
        position = bisect_right(starts, address) - 1
        one = self._allocations[position] if position >= 0 else None
        return one.place if one is not None and one.device == device and address < one.start + one.size_bytes else None


def _asleep_in(module_name: str, class_name: str, kind: str) -> Iterator[Asleep]:
    """The allocations that sleep, as far as this allocator tells it."""
    allocator = state_of(sys.modules.get(module_name)).get(class_name)
    instance = type.__getattribute__(allocator, "__dict__").get("instance") if type(allocator) is type else None
    table = state_of(instance).get("pointer_to_data") if instance is not None else None
    for address, data in list(table.items())[:MOST_ALLOCATIONS] if type(table) is dict else ():
        state = state_of(data)
        handle, has_copy = state.get("handle"), state.get("cpu_backup_tensor") is not None
        if type(address) is not int or type(handle) is not tuple or len(handle) < 2:
            continue
        number, size = handle[:2]
        if type(number) is int and type(size) is int and size > 0 and (has_copy or state.get("is_mapped") is False):
            yield Asleep(address, size, f"{kind}:{number}", IN_HOST if has_copy else DISCARDED)


def _by_device(allocations: Sequence[Asleep]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for one in allocations:
        sums[one.device] = sums.get(one.device, 0) + one.size_bytes
    return sums


def _divided(model: FoundModel, moved: Mapping[tuple[int, str, str, str], int]) -> FoundModel:
    """The model without what isn't its process's memory on its device: in host memory, or in none."""
    tree = model.tree
    memory: TreeMemory = {(row, tree.devices[device], tree.dtypes[dtype]): size for row, device, dtype, size in tree.memory}
    places: set[str] = set()
    by_device: dict[str, int] = {}
    imported_bytes = 0
    for (row, device, dtype, place), size in moved.items():
        counted = row, device, dtype
        taken = min(size, memory.get(counted, 0))
        if taken:
            memory[counted] -= taken
            elsewhere = row, HOST if place == IN_HOST else META, dtype
            memory[elsewhere] = memory.get(elsewhere, 0) + taken
            by_device[device] = by_device.get(device, 0) + taken
            if place == IMPORTED:
                imported_bytes += taken
            else:
                places.add(place)
    if not by_device:
        return model
    shown = with_memory(model, memory)
    dtypes: dict[str, int] = {}
    for (_, device, dtype), size in memory.items():
        if device != META and size > 0:
            dtypes[dtype] = dtypes.get(dtype, 0) + size
    return replace(
        shown,
        dtypes=dtypes,
        asleep_bytes=sum(by_device.values()) - imported_bytes,
        imported_bytes=imported_bytes,
        asleep_on=max(by_device, key=lambda device: (by_device[device], device)),
        asleep_in=places.pop() if len(places) == 1 else None,
    )
