"""The scan: all live modules read in short slices, then put together into models without touching a module again.

Between slices nothing here holds a module or tensor: readings are plain data, so what the host deletes is freed at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from gpumodels.failures import Failures
from gpumodels.grouping import find_roots
from gpumodels.reading import META, ModuleReader, ModuleReading
from gpumodels.registry import Registry
from gpumodels_shared.schema import LayerTree

SLICE_SECONDS: Final = 0.001
"""How long a slice works before it lets the host's threads have the interpreter."""


@dataclass(frozen=True, slots=True)
class FoundModel:
    """One model as the scan found it: plain data, but for the id that leads back to its module."""

    root: int
    """The registry's key of the outermost module."""
    core: int
    """The key of the module that it is about, wrappers seen through."""
    class_name: str
    bytes_by_device: Mapping[str, int]
    missing_bytes: int
    """What it would take to have in memory all that is on `meta`."""
    shared_bytes: int
    parameters: int
    dtypes: Mapping[str, int]
    tree: LayerTree
    bytes_by_origin: Mapping[tuple[str, str], int]
    """Bytes by (path, source), wherever they are now."""
    tensor_paths: frozenset[str] = field(default_factory=frozenset)
    """Attribute names of modules and tensors on the way to memory: `lora_down`, `weight`; what kinds are told by."""
    adapter_bytes: int = 0


def scan(registry: Registry, reader: ModuleReader, failures: Failures, pause: Callable[[], None]) -> list[FoundModel]:
    """All models that live now, in the order of their coming.

    Args:
        registry: the modules; children that it doesn't know are added.
        reader: reads one module.
        failures: where unreadable modules are counted.
        pause: called between slices, while nothing is held: sleeps.
    """
    readings: dict[int, ModuleReading] = {}
    for _ in _in_slices(_read_all(registry, reader, failures, readings)):
        pause()
    models: list[FoundModel] = []
    for _ in _in_slices(_assemble_all(readings, models)):
        pause()
    return models


def _in_slices(steps: Iterator[None]) -> Iterator[None]:
    """Run the steps, coming up for air whenever a slice's time is over."""
    until = time.perf_counter() + SLICE_SECONDS
    for _ in steps:
        if time.perf_counter() >= until:
            yield
            until = time.perf_counter() + SLICE_SECONDS


def _read_all(registry: Registry, reader: ModuleReader, failures: Failures, readings: dict[int, ModuleReading]) -> Iterator[None]:
    waiting = registry.refs()
    waiting.reverse()
    known = {ref.key for ref in waiting}  # type: ignore[attr-defined]
    guard = failures.guard("reading a module")
    while waiting:
        ref = waiting.pop()
        key: int = ref.key  # type: ignore[attr-defined]
        reading = None
        with guard:
            reading = reader.read(ref, registry.add)
        if reading is not None:
            readings[key] = reading
            for _, child in reading.children:
                if child not in known and (child_ref := registry.ref(child)) is not None:
                    known.add(child)
                    waiting.append(child_ref)
        yield


def _assemble_all(readings: Mapping[int, ModuleReading], models: list[FoundModel]) -> Iterator[None]:
    counted: set[tuple[str, int]] = set()
    for root, core in find_roots(readings):
        yield from _assemble(root, core, readings, counted, models)


def _assemble(
    root: int,
    core: int,
    readings: Mapping[int, ModuleReading],
    counted: set[tuple[str, int]],
    models: list[FoundModel],
) -> Iterator[None]:
    """One model's tree and sums, preorder from its root; a module held twice stands where it is met first."""
    names: list[str] = []
    depths: list[int] = []
    keys: list[int] = []
    seen: set[int] = set()
    stack = [("", 0, root)]
    while stack:
        name, depth, key = stack.pop()
        if key in seen:
            continue
        seen.add(key)
        names.append(name)
        depths.append(depth)
        keys.append(key)
        for child_name, child in reversed(readings[key].children):
            if child in readings and child not in seen:
                stack.append((child_name, depth + 1, child))
        yield
    sums = _Sums(counted)
    for position, key in enumerate(keys):
        sums.add(position, names, depths, readings[key])
        yield
    holding = sums.holding(depths)
    if not holding:
        return
    yield
    models.append(sums.model(root, core, readings[core].class_name, names, depths, [readings[key] for key in keys], holding))


class _Sums:
    """What adds up while a model's modules go by."""

    def __init__(self, counted: set[tuple[str, int]]) -> None:
        self._counted = counted
        self._own: set[tuple[str, int]] = set()
        self._parameters_seen: set[int] = set()
        self._devices: dict[str, int] = {}
        self._dtypes: dict[str, int] = {}
        self._memory: dict[tuple[int, int, int], int] = {}
        self._shared: dict[tuple[int, int, int], int] = {}
        self._touched: set[int] = set()
        self._parameters: list[int] = []
        self._bytes_by_device: dict[str, int] = {}
        self._bytes_by_dtype: dict[str, int] = {}
        self._bytes_by_origin: dict[tuple[str, str], int] = {}
        self._shared_bytes = 0
        self._adapter_bytes = 0
        self._adapter_depth: int | None = None
        self._tensor_paths: set[str] = set()

    def add(self, position: int, names: list[str], depths: list[int], reading: ModuleReading) -> None:
        """The module at this position of the preorder."""
        own = 0
        for identity, elements in reading.parameters:
            if identity not in self._parameters_seen:
                self._parameters_seen.add(identity)
                own += elements
        self._parameters.append(own)
        if self._adapter_depth is not None and depths[position] <= self._adapter_depth:
            self._adapter_depth = None
        if self._adapter_depth is None and is_adapter_name(names[position]):
            self._adapter_depth = depths[position]
        if not reading.storages:
            return
        in_adapter = self._adapter_depth is not None or any(is_adapter_name(name) for name in reading.tensor_names)
        self._tensor_paths.update(reading.tensor_names)
        for storage in reading.storages:
            if not storage.size_bytes:
                continue
            self._touched.add(position)
            device, _ = storage.key
            entry = (
                position,
                self._devices.setdefault(device, len(self._devices)),
                self._dtypes.setdefault(storage.dtype, len(self._dtypes)),
            )
            if storage.key in self._counted:
                self._shared[entry] = self._shared.get(entry, 0) + storage.size_bytes
                if storage.key not in self._own:
                    self._own.add(storage.key)
                    self._shared_bytes += storage.size_bytes
                continue
            self._counted.add(storage.key)
            self._own.add(storage.key)
            self._memory[entry] = self._memory.get(entry, 0) + storage.size_bytes
            self._bytes_by_device[device] = self._bytes_by_device.get(device, 0) + storage.size_bytes
            if device != META:
                self._bytes_by_dtype[storage.dtype] = self._bytes_by_dtype.get(storage.dtype, 0) + storage.size_bytes
            if in_adapter:
                self._adapter_bytes += storage.size_bytes
            if storage.origin is not None:
                origin = (storage.origin.path, storage.origin.source)
                self._bytes_by_origin[origin] = self._bytes_by_origin.get(origin, 0) + storage.size_bytes

    def holding(self, depths: list[int]) -> list[int]:
        """Positions of the modules that hold memory, themselves or below them."""
        keep: list[int] = []
        needed_depth = -1
        # Going up a preorder, the first module one level above a kept one is its parent.
        for position in range(len(depths) - 1, -1, -1):
            depth = depths[position]
            if position in self._touched or depth == needed_depth - 1:
                keep.append(position)
                needed_depth = depth
        keep.reverse()
        return keep

    def model(
        self,
        root: int,
        core: int,
        class_name: str,
        names: list[str],
        depths: list[int],
        readings: list[ModuleReading],
        holding: list[int],
    ) -> FoundModel:
        """The whole, once all modules have gone by."""
        place = {position: row for row, position in enumerate(holding)}
        classes: dict[str, int] = {}
        tree = LayerTree(
            names=tuple(names[position] for position in holding),
            depths=tuple(depths[position] for position in holding),
            classes=tuple(classes.setdefault(readings[position].class_name, len(classes)) for position in holding),
            class_names=tuple(classes),
            parameters=tuple(self._parameters[position] for position in holding),
            devices=tuple(self._devices),
            dtypes=tuple(self._dtypes),
            memory=_entries(self._memory, place),
            shared=_entries(self._shared, place),
        )
        missing = self._bytes_by_device.pop(META, 0)
        return FoundModel(
            root=root,
            core=core,
            class_name=class_name,
            bytes_by_device=self._bytes_by_device,
            missing_bytes=missing,
            shared_bytes=self._shared_bytes,
            parameters=sum(self._parameters),
            dtypes=self._bytes_by_dtype,
            tree=tree,
            bytes_by_origin=self._bytes_by_origin,
            tensor_paths=frozenset(self._tensor_paths.union(tree.names)),
            adapter_bytes=self._adapter_bytes,
        )


def is_adapter_name(name: str) -> bool:
    """Whether a module or tensor of this name belongs to an adapter: PEFT's, kohya's, LyCORIS's."""
    return name.startswith(("lora_", "hada_", "lokr_", "oft_", "dora_"))


def _entries(memory: Mapping[tuple[int, int, int], int], place: Mapping[int, int]) -> tuple[tuple[int, int, int, int], ...]:
    return tuple((place[layer], device, dtype, size) for (layer, device, dtype), size in memory.items())
