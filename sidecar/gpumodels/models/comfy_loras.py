"""ComfyUI's LoRAs: no modules, but tensors in the patches of a ModelPatcher, added to a model's weights when these are used.

Each LoRA file becomes an adapter of the patched model. One model has many patchers, since every node that changes something
makes a clone: what they share counts once.
"""

from __future__ import annotations

import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import FrameType, ModuleType
from typing import Any, Final, NamedTuple

from gpumodels.models.assembling import FoundModel, Part, assemble_adapter
from gpumodels.observing.observers import Observers
from gpumodels.support.failures import Failures
from gpumodels.support.instances import is_a, state_of
from gpumodels.support.known_classes import all_subclasses
from gpumodels.support.module_tables import entry, tables_of
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.slices import in_slices
from gpumodels.support.weak_table import KeyedRef, WeakTable
from gpumodels.tensors.module_reader import ModuleReading
from gpumodels.tensors.replaced_weights import keeps_weights
from gpumodels.tensors.tensor_storages import TensorReader, TensorStorage
from gpumodels_shared.shards import checkpoint_of

UNKNOWN_FILE: Final = ""
"""Stands for a file's path if we didn't see the file being read."""
MODULE: Final = "comfy.model_patcher"
COMPLETE: Final = frozenset({"diff", "set"})
"""Kinds of patches that consist of a tensor as large as the weight."""
KEYS_PER_STEP: Final = 16
MAX_DEPTH: Final = 4


Layers = dict[str, ModuleReading]
"""By the patched weight's key, what is added to it, as the reading of a module that would hold it."""


@never_pickled
class _BaseChanges(NamedTuple):
    """What patches say of the patched model itself."""

    storages: dict[tuple[str, int], TensorStorage]
    """Those of adapters that its own modules hold as well."""
    merged: dict[str, set[str]]
    """By the checkpoint of another model, the keys of the weights into which that model's are merged."""


@never_pickled
class ComfyLoras:
    """Weak references to live patchers. Nobody registers these, so their constructor is observed.

    Args:
        accounts: read the tensors.
        failures: where what can't be read is counted.
        changed: called when patches were added or a patcher died.
    """

    def __init__(self, tensor_reader: TensorReader, failures: Failures, changed: Callable[[], None]) -> None:
        self._tensor_reader = tensor_reader
        self._failures = failures
        self._changed = changed
        self._patchers: WeakTable[None] = WeakTable(on_death=lambda _: changed())
        self._type: type | None = None
        self._seen: tuple[object, ...] = ()
        self._bases: tuple[FoundModel, ...] = ()
        self._found: list[FoundModel] = []
        self._on_disk: set[tuple[str, int]] = set()
        """Of the patches' storages, those that are mapped from a file."""

    def observe(self, observers: Observers) -> None:
        """Observe nothing yet: torch itself has no patchers."""

    def awaited(self, observers: Observers) -> Mapping[str, Callable[[ModuleType], None]]:
        """ComfyUI's module of patchers, with the function to call once it is imported."""

        def comfy(module: ModuleType) -> None:
            self._type = module.ModelPatcher
            observers.observe(module.ModelPatcher.__init__, "noting a ModelPatcher", returned=self._patcher_made)
            for name in ("add_patches", "add_hook_patches"):
                observers.observe(vars(self._type).get(name), "noting patches", returned=self._patches_added)

        return {MODULE: comfy}

    def types(self) -> set[type]:
        """Classes of patchers. The instances that exist already are to be given to `add_all`, once."""
        return all_subclasses(self._type) if self._type is not None else set()

    def add_all(self, patchers: Iterable[Any]) -> None:
        """Add patchers that were made before the constructor was observed."""
        for patcher in patchers:
            self._patchers.put(patcher, None)

    def patchers(self) -> list[KeyedRef]:
        """Weak references to the live patchers, whether they have patches or not."""
        return self._patchers.refs()

    def with_adapters(self, models: Sequence[FoundModel], pause: Callable[[], None]) -> list[FoundModel]:
        """These models, and the adapters in their patches; the same objects as before where nothing about them changed.

        A model whose layers hold tensors of an adapter, as WanVideoWrapper's do, is not from the adapter's file for that.

        Args:
            models: the scan's.
            pause: called between slices, while no module or tensor is held; sleeps.
        """
        patchers, seen = self._with_patches()
        bases = tuple(models) if patchers else ()
        if seen != self._seen or bases != self._bases:
            adapters: list[FoundModel] = []
            in_bases: dict[FoundModel, _BaseChanges] = {}
            in_slices(self._find(patchers, models, adapters, in_bases), pause)
            bases_now = {base: _as_patched(base, in_base) for base, in_base in in_bases.items()}
            self._seen, self._bases = seen, bases
            self._found = [*(bases_now.get(model, model) for model in models), *adapters]
        return self._found if patchers else list(models)

    def _with_patches(self) -> tuple[list[KeyedRef], tuple[object, ...]]:
        """One patcher for each distinct set of patches, and keys that differ once one of these sets changes."""
        patchers: dict[object, KeyedRef] = {}
        keeping: dict[int, KeyedRef] = {}
        refs = self._patchers.refs()
        clones = Counter(id(state_of(patcher).get("parent")) for ref in refs if (patcher := ref()) is not None)
        patcher = None
        for ref in refs:
            with self._failures.guard("inspecting a ModelPatcher"):
                if ref.key in clones and _references(ref) <= clones[ref.key]:
                    continue  # nobody can use it: only its clones hold it, which have of its patches what is still applied
                patcher = ref()
                state = state_of(patcher) if patcher is not None else {}
                if keeps_weights(patcher):
                    keeping[id(state.get("model"))] = ref  # clones share what they keep
                patcher = None
                size = sum(map(len, _tables(state)))
                if size:  # clones have the uuid of what they were cloned from until they get patches of their own
                    patchers.setdefault((id(state.get("model")), str(state.get("patches_uuid", ref.key)), size), ref)
        self._tensor_reader.patchers = keeping
        return list(patchers.values()), tuple(patchers)

    def _find(
        self,
        patchers: Sequence[KeyedRef],
        models: Sequence[FoundModel],
        found: list[FoundModel],
        in_bases: dict[FoundModel, _BaseChanges],
    ) -> Iterator[None]:
        """Append the adapters to `found`, and add to `in_bases` what the patches say of the models themselves."""
        adapters: dict[tuple[FoundModel, str], Layers] = {}
        self._on_disk = set()
        for ref in patchers:
            bases: dict[str, FoundModel | None] = {}
            keys = self._keys(ref)
            for start in range(0, len(keys), KEYS_PER_STEP):
                with self._failures.guard("reading a ModelPatcher"):
                    self._read(ref, keys[start : start + KEYS_PER_STEP], models, bases, adapters, in_bases)
                yield
        counted: set[tuple[str, int]] = set()
        for (base, path), layers in adapters.items():
            own = _without_weights(layers, base, path, models)
            yield
            storages = {storage.key: storage for reading in own.values() for storage in reading.storages}
            in_base = storages.keys() & base.storages.keys()
            if in_base:
                in_bases.setdefault(base, _BaseChanges({}, {})).storages.update((key, storages[key]) for key in in_base)
            part = Part(base.root, base.core)
            counted_elsewhere = (storages.keys() & counted) | in_base
            before = len(found)
            yield from assemble_adapter(part, path, [*own.items()], counted_elsewhere, base.members, found)
            found[before:] = [replace(adapter, rows_on_disk=self._rows_on_disk(adapter, own)) for adapter in found[before:]]
            counted |= storages.keys()

    def _rows_on_disk(self, adapter: FoundModel, layers: Layers) -> frozenset[int]:
        on_disk = {name for name, reading in layers.items() if all(one.key in self._on_disk for one in reading.storages)}
        return frozenset(row for row, name in enumerate(adapter.tree.names) if name in on_disk)

    def _keys(self, ref: KeyedRef) -> list[tuple[int, Any]]:
        with self._failures.guard("reading a ModelPatcher"):
            patcher = ref()
            if patcher is not None:
                return [(number, key) for number, table in enumerate(_tables(state_of(patcher))) for key in list(table)]
        return []

    def _read(
        self,
        ref: KeyedRef,
        keys: Sequence[tuple[int, Any]],
        models: Sequence[FoundModel],
        bases: dict[str, FoundModel | None],
        adapters: dict[tuple[FoundModel, str], Layers],
        in_bases: dict[FoundModel, _BaseChanges],
    ) -> None:
        """Add the patches of the weights with these keys to `adapters`, by base model and file; merged models to `in_bases`."""
        patcher = ref()
        if patcher is None:
            return
        tables = _tables(state_of(patcher))
        for number, key in keys:
            if number >= len(tables) or type(key) is not str:
                continue
            prefix = key.partition(".")[0]
            if prefix not in bases:
                bases[prefix] = _patched_model(state_of(patcher)["model"], key, models)
            base = bases[prefix]
            if base is None:
                continue
            for patch in list(tables[number].get(key, ())):
                if type(patch[1]) is list:
                    merged = self._merged_file(patch, models)
                    if merged is not None:
                        in_bases.setdefault(base, _BaseChanges({}, {})).merged.setdefault(merged, set()).add(key)
                    continue
                path, reading = self._reading(patch, ref)
                if reading.storages:
                    layers = adapters.setdefault((base, path), {})
                    layers[key] = _merged(layers.get(key), reading)

    def _reading(self, patch: tuple[Any, ...], ref: KeyedRef) -> tuple[str, ModuleReading]:
        """The file and the tensors of one patch of a weight; a patch is (strength, what is added, strength of the model, …)."""
        storages: list[TensorStorage] = []
        parameters: list[tuple[int, int]] = []
        for tensor in _tensors_in(patch[1], self._tensor_reader.tensor_type):
            known = len(storages)
            self._tensor_reader.add_storages(tensor, storages, "lora_patch")
            self._on_disk.update(one.key for one in storages[known:] if self._tensor_reader.is_on_disk(tensor, one))
            parameters.append((id(tensor), self._tensor_reader.elements(tensor)))
        kind = type(patch[1])
        class_name = str(patch[1][0]) if kind is tuple else kind.__name__
        paths = {storage.origin.path for storage in storages if storage.origin is not None and storage.origin.path}
        path = checkpoint_of(paths.pop()) if len(paths) == 1 else UNKNOWN_FILE
        return path, ModuleReading(class_name, (), tuple(storages), (), tuple(parameters), False, None, 0, ref)

    def _merged_file(self, patch: tuple[Any, ...], models: Sequence[FoundModel]) -> str | None:
        """The checkpoint of the model that is merged by this patch, `(strength, [(weight, …), …], …)`; None if it isn't known."""
        if not patch[0] or not patch[1] or not is_a(patch[1][0], tuple):
            return None
        storages: list[TensorStorage] = []
        for tensor in _tensors_in(patch[1][0], self._tensor_reader.tensor_type):
            self._tensor_reader.add_storages(tensor, storages)
        paths = {storage.origin.path for storage in storages if storage.origin is not None and storage.origin.path}
        unknown = [storage.key for storage in storages if storage.origin is None]
        for model in models if unknown else ():
            if any(key in model.storages for key in unknown):
                paths.update(path for path, _ in model.bytes_by_origin if path)
        checkpoints = {checkpoint_of(path) for path in paths}
        return checkpoints.pop() if len(checkpoints) == 1 else None

    def _patcher_made(self, frame: FrameType, _result: Any) -> None:
        self._patchers.put(frame.f_locals["self"], None)

    def _patches_added(self, _frame: FrameType, _result: Any) -> None:
        self._changed()


def _tables(state: Mapping[str, Any]) -> list[dict[Any, Any]]:
    """Tables of patches by the weight's key: the permanent patches, and those of each hook."""
    found = [state.get("patches")]
    hooks = state.get("hook_patches")
    if is_a(hooks, dict):
        found += list(dict.values(hooks))
    return [table for table in found if is_a(table, dict) and dict.__len__(table)]


def _references(ref: weakref.ref[Any]) -> int:
    """How many strong references to the object there are, this function's own included."""
    thing = ref()
    return sys.getrefcount(thing) - _OWN_REFERENCES


@never_pickled
class _HeldOnce:
    """An object to which exactly one variable refers, to count what `_references` adds itself."""


_OWN_REFERENCES = 0
_held = _HeldOnce()
_OWN_REFERENCES = _references(weakref.ref(_held)) - 1
"""References that counting itself makes, which depends on Python's version."""


def _without_weights(layers: Layers, base: FoundModel, path: str, models: Sequence[FoundModel]) -> Layers:
    """The layers without tensors that are weights: of another model, which are merged, or the base's own.

    What the base holds as well is the adapter's nevertheless, unless it is a complete weight from the base's own file.
    """
    held = {storage.key for reading in layers.values() for storage in reading.storages}
    weights = {key for model in models if model is not base for key in held if key in model.storages}
    from_there = sum(size for (origin, _), size in base.bytes_by_origin.items() if checkpoint_of(origin) == path)
    if path == UNKNOWN_FILE or 2 * from_there > base.held_bytes:
        complete = {storage.key for reading in layers.values() if reading.class_name in COMPLETE for storage in reading.storages}
        weights |= complete & base.storages.keys()
    if not weights:
        return layers
    found: Layers = {}
    for name, reading in layers.items():
        storages = tuple(storage for storage in reading.storages if storage.key not in weights)
        if storages:
            found[name] = reading._replace(storages=storages)
    return found


def _as_patched(base: FoundModel, in_base: _BaseChanges) -> FoundModel:
    """The model with what is merged into it; the adapters' storages in it are from no file of its own."""
    by_origin = dict(base.bytes_by_origin)
    for storage in in_base.storages.values():
        if storage.origin is not None:
            origin = (storage.origin.path, storage.origin.source)
            by_origin[origin] = by_origin.get(origin, 0) - storage.size_bytes
    by_origin = {origin: size for origin, size in by_origin.items() if size > 0}
    paths = {path for path, _ in by_origin}
    stamps = {path: stamp for path, stamp in base.stamps.items() if path in paths}
    merged = {path: len(keys) for path, keys in in_base.merged.items()}
    return replace(base, bytes_by_origin=by_origin, stamps=stamps, merged_tensors=merged)


_NO_TENSORS: Final = frozenset({type(None), bool, str, int, float, list})


def _tensors_in(value: Any, tensor_type: type, depth: int = 0) -> Iterator[Any]:
    """The tensors of one patch: `("diff", (tensor,))`, or an object with `weights`. A list is another model's weight."""
    if tensor_type in type(value).__mro__:
        yield value
    elif depth > MAX_DEPTH or type(value) in _NO_TENSORS:
        return
    elif is_a(value, tuple):
        for item in tuple.__iter__(value):
            yield from _tensors_in(item, tensor_type, depth + 1)
    else:
        weights = state_of(value).get("weights")
        yield from _tensors_in(tuple(weights) if type(weights) is list else weights, tensor_type, depth + 1)


def _patched_model(module: Any, key: str, models: Sequence[FoundModel]) -> FoundModel | None:
    """The model that has the weight with this key: a patched module may hold several models, as a pair of text encoders does."""
    for name in (*key.split("."), ""):
        if module is None:
            return None
        for model in models:
            if model.adapter is None and id(module) in model.members:
                return model
        module = entry(tables_of(state_of(module)).modules, name)
    return None


def _merged(one: ModuleReading | None, other: ModuleReading) -> ModuleReading:
    """What two patches of one weight hold. Those of two clones may hold the same storages, which are listed once."""
    if one is None:
        return other
    known = {storage.key for storage in one.storages}
    return one._replace(
        storages=(*one.storages, *(storage for storage in other.storages if storage.key not in known)),
        parameters=tuple({**dict(one.parameters), **dict(other.parameters)}.items()),
    )
