"""ComfyUI's LoRAs: no modules, but tensors in the patches of a ModelPatcher, added to a model's weights when these are used.

Each LoRA file becomes an adapter of the patched model. One model has many patchers, since every node that changes something
makes a clone: what they share counts once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import FrameType, ModuleType
from typing import Any, Final

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
from gpumodels.tensors.tensor_storages import TensorReader, TensorStorage
from gpumodels_shared.file_names import checkpoint_of

UNKNOWN_FILE: Final = ""
"""Stands for a file's path if we didn't see the file being read."""
MODULE: Final = "comfy.model_patcher"
KEYS_PER_STEP: Final = 16
MAX_DEPTH: Final = 4


Layers = dict[str, ModuleReading]
"""By the patched weight's key, what is added to it, as the reading of a module that would hold it."""


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

    def adapters(self, models: Sequence[FoundModel], pause: Callable[[], None]) -> list[FoundModel]:
        """The adapters in the patches of these models; the same objects as before where nothing about them changed.

        Args:
            models: the scan's.
            pause: called between slices, while no module or tensor is held; sleeps.
        """
        patchers, seen = self._with_patches()
        bases = tuple(models) if patchers else ()
        if seen != self._seen or bases != self._bases:
            found: list[FoundModel] = []
            in_slices(self._find(patchers, models, found), pause)
            self._seen, self._bases, self._found = seen, bases, found
        return self._found

    def _with_patches(self) -> tuple[list[KeyedRef], tuple[object, ...]]:
        """One patcher for each distinct set of patches, and keys that differ once one of these sets changes."""
        patchers: dict[object, KeyedRef] = {}
        for ref in self._patchers.refs():
            with self._failures.guard("inspecting a ModelPatcher"):
                patcher = ref()
                state = state_of(patcher) if patcher is not None else {}
                size = sum(map(len, _tables(state)))
                if size:  # clones have the uuid of what they were cloned from until they get patches of their own
                    patchers.setdefault((id(state.get("model")), str(state.get("patches_uuid", ref.key)), size), ref)
        return list(patchers.values()), tuple(patchers)

    def _find(self, patchers: Sequence[KeyedRef], models: Sequence[FoundModel], found: list[FoundModel]) -> Iterator[None]:
        adapters: dict[tuple[FoundModel, str], Layers] = {}
        for ref in patchers:
            bases: dict[str, FoundModel | None] = {}
            keys = self._keys(ref)
            for start in range(0, len(keys), KEYS_PER_STEP):
                with self._failures.guard("reading a ModelPatcher"):
                    self._read(ref, keys[start : start + KEYS_PER_STEP], models, bases, adapters)
                yield
        counted: set[tuple[str, int]] = set()
        for (base, path), layers in adapters.items():
            held = {storage.key for reading in layers.values() for storage in reading.storages}
            yield
            if any(key in model.storages for model in models for key in held):
                continue  # merged from another model: these are that model's weights, no adapter
            part = Part(base.root, base.core)
            yield from assemble_adapter(part, path, [*layers.items()], held & counted, base.members, found)
            counted |= held

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
    ) -> None:
        """Add the patches of the weights with these keys to `adapters`, by base model and file."""
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
                path, reading = self._reading(patch, ref)
                if reading.storages:
                    layers = adapters.setdefault((base, path), {})
                    layers[key] = _merged(layers.get(key), reading)

    def _reading(self, patch: tuple[Any, ...], ref: KeyedRef) -> tuple[str, ModuleReading]:
        """The file and the tensors of one patch of a weight; a patch is (strength, what is added, strength of the model, …)."""
        storages: list[TensorStorage] = []
        parameters: list[tuple[int, int]] = []
        for tensor in _tensors_in(patch[1], self._tensor_reader.tensor_type):
            self._tensor_reader.add_storages(tensor, storages, "lora_patch")
            parameters.append((id(tensor), self._tensor_reader.elements(tensor)))
        kind = type(patch[1])
        class_name = str(patch[1][0]) if kind is tuple else kind.__name__
        paths = {storage.origin.path for storage in storages if storage.origin is not None and storage.origin.path}
        path = checkpoint_of(paths.pop()) if len(paths) == 1 else UNKNOWN_FILE
        return path, ModuleReading(class_name, (), tuple(storages), (), tuple(parameters), False, None, 0, ref)

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
