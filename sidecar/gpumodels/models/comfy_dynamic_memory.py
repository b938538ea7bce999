"""ComfyUI's dynamic VRAM: models of which single pages are on a device, outside torch's allocator, and come and go as it runs.

A scan finds their weights where the parameters are: in host memory, or mapped from a file. Here each weight is divided into
what is on the device, what is in host memory, and what is on disk only, each byte once: a copy that stays in host memory beside
the one on the device counts as little as the mapping of the file does.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, Final

from gpumodels.models.assembling import FoundModel
from gpumodels.models.page_residency import PageInquirer, Residency
from gpumodels.models.paged_weights import HOST, PagedWeight, Vbar, divided
from gpumodels.observing.module_registry import ModuleRegistry
from gpumodels.support.failures import Failures
from gpumodels.support.instances import is_a, state_of
from gpumodels.support.last_references import give_back
from gpumodels.support.module_tables import entries_of, entry, tables_of
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.slices import batched, in_slices
from gpumodels.support.weak_table import KeyedRef, WeakTable
from gpumodels.tensors.paged_modules import (
    PAGED_TENSORS,
    PINNED_PATCHES,
    PINNED_WEIGHTS,
    PINS,
    VBARS,
    Allocation,
    allocation_in,
    is_vbar,
    patches_pin_in,
    pin_in,
)
from gpumodels.tensors.tensor_storages import META, TensorReader, TensorStorage

MOST_VBARS: Final = 256
UNKNOWN: Final = -1
"""The address of a VBAR that doesn't say where it is: nothing is known of what is in it."""
ROWS_PER_STEP: Final = 16
PINS_AGAIN_SECONDS: Final = 10.0
"""Pins may be passed from one module to another, which no sum shows."""
REST_FACTOR: Final = 100
QUICK_SECONDS: Final = 0.01
"""Pages move all the time: where dividing the models took longer than this, it is done again only after so many times as long."""
MANAGEMENT: Final = "comfy.model_management"
CAST_BUFFERS: Final = "STREAM_AIMDO_CAST_BUFFERS"
"""Where ComfyUI keeps buffers outside torch's allocator, through which weights go that found no page."""

_NONE_PATCHED: Final[Mapping[int, str]] = {}


@never_pickled
class _Layout:
    """How a model's weights lie in VBARs, and what was last made of it."""

    def __init__(
        self,
        device: str,
        weights: Sequence[PagedWeight],
        refs: Mapping[int, KeyedRef],
        patched: Mapping[int, str] = _NONE_PATCHED,
    ) -> None:
        self.device = device
        self.weights = weights
        self.refs = refs
        """By row of the layer tree, the module that may have its weights in pinned memory."""
        self.patched = patched
        """Of an adapter, by row, the parameter of that module that it is patched onto."""
        self.vbars = {place[0] for weight in weights for place in weight.places}
        self.pins: object = None
        """Sums of all models' pinned memory when `pinned` was read."""
        self.pinned: Mapping[int, bool] = {}
        """The rows whose weights have a copy in host memory, and whether that is page-locked."""
        self.residency: Mapping[int, Residency | None] = {}
        self.shown: FoundModel | None = None


@never_pickled
class ComfyDynamicMemory:
    """Divides the models of a scan by what is on their device now.

    Args:
        registry: the live modules.
        paged_models: modules that have VBARs.
        tensor_reader: reads their weights.
        failures: where what can't be read is counted.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        registry: ModuleRegistry,
        paged_models: WeakTable[None],
        tensor_reader: TensorReader,
        failures: Failures,
        clock: Callable[[], float],
    ) -> None:
        self._registry = registry
        self._paged_models = paged_models
        self._tensor_reader = tensor_reader
        self._failures = failures
        self._clock = clock
        self._inquirer = PageInquirer(failures, clock)
        self._vbars: dict[int, Vbar] = {}
        self._residency: dict[int, Residency | None] = {}
        self._pins: list[object] = []
        self._pins_read_at = self._divide_not_before = float("-inf")
        self._structure: object = None
        """Which VBARs there were, and how much of each was in use, when these were found."""
        self._layouts: dict[FoundModel, _Layout | None] = {}
        self.shown: Mapping[FoundModel, FoundModel] = {}
        """By model of the scan, the same model as it is to be shown; those without dynamic memory are left out."""
        self.outside_torch: Mapping[str, int] = {}
        """By device, the bytes that the host allocated beside torch's allocator for pages and for casting weights."""

    def update(self, models: Sequence[FoundModel], pause: Callable[[], None]) -> None:
        """Ask which pages are in memory, and divide these models accordingly.

        Args:
            models: the scan's.
            pause: called between slices, while no module or tensor is held; sleeps.
        """
        holders = self._paged_models.refs()
        if not holders:
            self._vbars, self._residency, self._layouts, self.shown, self.outside_torch = {}, {}, {}, {}, {}
            return
        self._vbars, self._residency, self._pins = {}, {}, []
        in_slices(self._ask(holders), pause)
        self._inquirer.forget_all_but(set(self._vbars))
        self.outside_torch = self._held_outside_torch()
        structure = tuple(ref.key for ref in holders), tuple(self._vbars.values())
        layouts: dict[FoundModel, _Layout | None] = {}
        in_slices(self._lay_out(models, holders, structure, layouts), pause)
        self._structure, self._layouts = structure, layouts
        shown: dict[FoundModel, FoundModel] = {}
        in_slices(self._divide_all(shown), pause)
        self.shown = shown

    @property
    def unfilled_bytes(self) -> int:
        """Of the bytes outside torch, those that no weight fills: the rest of pages, and buffers for casting."""
        in_pages = sum(_on_devices(shown) - _on_devices(found) for found, shown in self.shown.items())
        return max(0, sum(self.outside_torch.values()) - in_pages)

    def _ask(self, holders: Sequence[KeyedRef]) -> Iterator[None]:
        """Find the VBARs of all models, and what of each is in memory; each is held only while it is asked."""
        for ref in holders:
            for number in range(MOST_VBARS):
                with self._failures.guard("reading a model's dynamic memory"):
                    if not self._ask_next(ref, number):
                        break
                yield
            with self._failures.guard("reading a model's pinned memory"):
                module = ref()
                self._pins.append(_pinned_sums(state_of(module).get(PINS)) if module is not None else None)
                module = None
            yield

    def _ask_next(self, ref: KeyedRef, number: int) -> bool:
        """Ask the model's VBAR of this number; False if it has none."""
        module = ref()
        table = state_of(module).get(VBARS) if module is not None else None
        module = None
        if not is_a(table, dict) or number >= dict.__len__(table) or len(self._vbars) >= MOST_VBARS:
            return False
        pairs = list(dict.items(table))
        device, held = pairs[number][0], [pairs[number][1]]
        table = None
        pairs = []
        try:
            self._ask_vbar(device, held)
        finally:
            give_back(held)
        return True

    def _ask_vbar(self, device: Any, held: list[Any]) -> None:
        """Ask one VBAR, the list's only item, what of it is in memory; its host may drop it meanwhile."""
        if id(held[0]) in self._vbars or not is_vbar(held[0]):
            return
        state = state_of(held[0])
        base, used = state.get("base_addr"), state.get("offset")
        kind, _, stated = (str(device) if type(device) in (str, self._tensor_reader.torch.device) else "cuda").partition(":")
        key, name = id(held[0]), f"{kind}:{stated or state.get('device', 0)}"
        if type(base) is int and type(used) is int:
            self._vbars[key] = Vbar(key, name, base, used)
            self._residency[key] = self._inquirer.ask(held[0])
        else:
            self._vbars[key], self._residency[key] = Vbar(key, name, UNKNOWN, 0), None

    def _held_outside_torch(self) -> Mapping[str, int]:
        held: dict[str, int] = {}
        kinds: dict[str, str] = {}
        for vbar in self._vbars.values():
            kind, _, index = vbar.device.partition(":")
            kinds[index] = kind
            residency = self._residency.get(vbar.key)
            held[vbar.device] = held.get(vbar.device, 0) + (residency.loaded_bytes if residency is not None else 0)
        buffers = state_of(sys.modules.get(MANAGEMENT)).get(CAST_BUFFERS)
        for buffer in list(dict.values(buffers)) if is_a(buffers, dict) else ():
            state = state_of(buffer)
            size, number = state.get("_allocated"), str(state.get("device"))
            if type(size) is int and size > 0 and number in kinds:
                held[f"{kinds[number]}:{number}"] += size
        return held

    def _lay_out(
        self,
        models: Sequence[FoundModel],
        holders: Sequence[KeyedRef],
        structure: object,
        layouts: dict[FoundModel, _Layout | None],
    ) -> Iterator[None]:
        """Find how the weights of models that are new or were given other parts of VBARs lie in these."""
        below: dict[int, str] | None = None
        for model in models:
            if structure == self._structure and model in self._layouts:
                layouts[model] = self._layouts[model]
                continue
            if below is None:
                below = {}
                yield from self._find_below(holders, below)
            device = next((below[key] for key in (model.core, model.root, *model.part.equal_roots) if key in below), None)
            layouts[model] = None
            if device is not None and model.adapter is not None:
                layouts[model] = self._layout_of_adapter(model, device, holders)
                yield
            elif device is not None:
                weights: dict[tuple[str, int], PagedWeight] = {}
                refs: dict[int, KeyedRef] = {}
                yield from self._read_weights(model, weights, refs)
                layouts[model] = _Layout(self._main_device(weights.values()) or device, [*weights.values()], refs)

    def _layout_of_adapter(self, model: FoundModel, device: str, holders: Sequence[KeyedRef]) -> _Layout:
        """How the tensors of a LoRA lie that is patched onto a model with dynamic memory.

        They have no pages of their own: what is on the device are the weights that they were added to.
        """
        tree = model.tree
        weights = [
            PagedWeight(row, HOST, tree.dtypes[dtype], size, (), tree.dtypes[dtype], size, is_on_disk=True, is_patch=True)
            for row, position, dtype, size in tree.memory
            if row in model.rows_on_disk and tree.devices[position] == HOST
        ]
        refs: dict[int, KeyedRef] = {}
        patched: dict[int, str] = {}
        for row in sorted(model.rows_on_disk):
            path, _, parameter = tree.names[row].rpartition(".")
            with self._failures.guard("reading a module's dynamic memory"):
                ref = self._module_at(path, (self._registry.ref(model.root), *holders), model.members)
                if ref is not None:
                    refs[row], patched[row] = ref, parameter
        return _Layout(device, weights, refs, patched)

    def _module_at(self, path: str, starts: Iterable[KeyedRef | None], members: Set[int]) -> KeyedRef | None:
        """The module at this dotted path below one of these, if it is one of the members."""
        for start in starts:
            module = start() if start is not None else None
            for name in path.split("."):
                module = entry(tables_of(state_of(module)).modules, name) if module is not None else None
            ref = self._registry.ref(id(module)) if module is not None else None
            if ref is not None and ref.key in members:
                return ref
        return None

    def _main_device(self, weights: Iterable[PagedWeight]) -> str:
        """The device for most of whose pages these weights are; empty if they are for none."""
        sizes: dict[str, int] = {}
        for weight in weights:
            for key, _, size in weight.places:
                device = self._vbars[key].device
                sizes[device] = sizes.get(device, 0) + size
        return max(sizes, key=lambda device: (sizes[device], device)) if sizes else ""

    def _find_below(self, holders: Sequence[KeyedRef], below: dict[int, str]) -> Iterator[None]:
        """Add the keys of all modules of these models, with the device of their VBAR; without a VBAR, an empty text."""
        for holder in holders:
            device = ""
            with self._failures.guard("reading a model's dynamic memory"):
                known = [key for key in _vbar_ids(holder) if key in self._vbars]
                device = self._vbars[known[0]].device if known else ""
            waiting = [holder]
            while waiting:
                ref = waiting.pop()
                if ref.key in below:
                    continue
                below[ref.key] = device
                with self._failures.guard("reading a model's dynamic memory"):
                    module = ref()
                    children = entries_of(tables_of(state_of(module)).modules) if module is not None else []
                    module = None
                    waiting += [found for _, child in children if (found := self._registry.ref(id(child))) is not None]
                    children = []
                if len(below) % ROWS_PER_STEP == 0:
                    yield

    def _read_weights(
        self, model: FoundModel, weights: dict[tuple[str, int], PagedWeight], refs: dict[int, KeyedRef]
    ) -> Iterator[None]:
        """Add the model's weights that are not on a device, by storage; one that several modules hold counts with the first."""
        for row, key in enumerate(model.keys):
            ref = self._registry.ref(key) if key else None
            if ref is not None:
                with self._failures.guard("reading a module's dynamic memory"):
                    self._read_module(model, row, ref, weights, refs)
            if row % ROWS_PER_STEP == 0:
                yield

    def _read_module(
        self,
        model: FoundModel,
        row: int,
        ref: KeyedRef,
        weights: dict[tuple[str, int], PagedWeight],
        refs: dict[int, KeyedRef],
    ) -> None:
        module = ref()
        if module is None:
            return
        state = state_of(module)
        allocation = allocation_in(state)
        place = self._place(allocation) if allocation is not None else None
        tables = tables_of(state)
        for name, tensor in (*entries_of(tables.parameters), *entries_of(tables.buffers)):
            found: list[TensorStorage] = []
            self._tensor_reader.add_storages(tensor, found, name)
            places = (place,) if place is not None and name in PAGED_TENSORS else ()
            for storage in found:
                device = storage.key[0]
                if device not in (HOST, META) or not storage.size_bytes or storage.key in model.counted_elsewhere:
                    continue
                known = weights.get(storage.key)
                if known is not None:
                    weights[storage.key] = known._replace(places=known.places + places)
                    continue
                dtype, copied_bytes = self._copied_as(tensor, storage) if places else (storage.dtype, storage.size_bytes)
                on_disk = self._tensor_reader.is_on_disk(tensor, storage)
                weights[storage.key] = PagedWeight(
                    row, device, storage.dtype, storage.size_bytes, places, dtype, copied_bytes, on_disk
                )
                if places:
                    refs[row] = ref

    def _place(self, allocation: Allocation) -> tuple[int, int, int] | None:
        """The module's part of a VBAR, from that one's beginning; None if it isn't in one that is known."""
        vbar = self._vbars.get(allocation.vbar)
        if vbar is not None and vbar.base == UNKNOWN:
            return vbar.key, 0, allocation.size_bytes
        if vbar is None or not 0 <= allocation.address - vbar.base <= vbar.used - allocation.size_bytes:
            return None
        return vbar.key, allocation.address - vbar.base, allocation.size_bytes

    def _copied_as(self, tensor: Any, storage: TensorStorage) -> tuple[str, int]:
        """Dtype and size of the storage's copy on the device: ComfyUI notes to what a tensor is cast, unless it is quantized."""
        dtype: Any = state_of(tensor).get("_model_dtype")
        if type(dtype) is not self._tensor_reader.torch.dtype:
            return storage.dtype, storage.size_bytes
        return str(dtype).removeprefix("torch."), self._tensor_reader.elements(tensor) * int(dtype.itemsize)

    def _divide_all(self, shown: dict[FoundModel, FoundModel]) -> Iterator[None]:
        """Add each model with dynamic memory as it is now; the same object as before if nothing about it changed."""
        now = self._clock()
        again = now - self._pins_read_at >= PINS_AGAIN_SECONDS
        if again:
            self._pins_read_at = now
        seconds = 0.0
        for model, layout in self._layouts.items():
            if layout is None:
                continue
            began = time.thread_time()
            if layout.shown is None or again or layout.pins != self._pins:
                pinned: dict[int, bool] = {}
                yield from self._read_pins(layout, pinned)
                if pinned != layout.pinned:
                    layout.pinned, layout.residency = pinned, {}
                layout.pins = self._pins
            residency = {key: self._residency.get(key) for key in layout.vbars}
            if layout.shown is None or (layout.residency != residency and now >= self._divide_not_before):
                divided_now = yield from divided(
                    model, layout.device, layout.weights, layout.pinned, self._vbars, self._residency
                )
                layout.residency = residency
                if layout.shown is None or not _is_same(layout.shown, divided_now):
                    layout.shown = divided_now
                seconds += time.thread_time() - began
            shown[model] = layout.shown
            yield
        if seconds > QUICK_SECONDS:
            self._divide_not_before = now + REST_FACTOR * seconds

    def _read_pins(self, layout: _Layout, pinned: dict[int, bool]) -> Iterator[None]:
        """Add the rows whose weights have a copy in host memory, and whether it is page-locked."""
        for some in batched(layout.refs.items(), ROWS_PER_STEP):
            with self._failures.guard("reading modules' pinned memory"):
                for row, ref in some:
                    state, parameter = state_of(ref()), layout.patched.get(row)
                    pin = pin_in(state) if parameter is None else patches_pin_in(state, parameter)
                    if pin is not None:
                        pinned[row] = pin
            yield


def _vbar_ids(holder: KeyedRef) -> list[int]:
    """The `id()` of each of the model's VBARs."""
    table = state_of(holder()).get(VBARS)
    return [id(vbar) for vbar in dict.values(table)] if is_a(table, dict) else []


def _on_devices(model: FoundModel) -> int:
    return sum(size for device, size in model.bytes_by_device.items() if device != HOST)


def _is_same(one: FoundModel, other: FoundModel) -> bool:
    """Whether both are shown alike."""
    return (one.tree, one.paged_onto, one.pinned_bytes, one.unread) == (
        other.tree,
        other.paged_onto,
        other.pinned_bytes,
        other.unread,
    )


def _pinned_sums(pins: Any) -> object:
    """Sums that change when modules get or lose pinned memory; None if it isn't known."""
    found: list[object] = []
    for pin in list(dict.values(pins)) if is_a(pins, dict) else ():
        for subset in (*PINNED_WEIGHTS, *PINNED_PATCHES) if is_a(pin, dict) else ():
            one = dict.get(pin, subset)
            if is_a(one, tuple) and one:
                size = state_of(one[0]).get("size")
                lengths = [list.__len__(part) for part in one[1:] if is_a(part, list)]
                sums = [part[0] for part in one[1:] if type(part) is list and len(part) == 1 and type(part[0]) is int]
                found += [size if type(size) is int else None, *lengths, *sums]
    return found
