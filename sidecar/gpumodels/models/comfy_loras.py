"""ComfyUI's LoRAs: no modules, but tensors in the patches of a ModelPatcher, added to a model's weights when these are used.

Each file of them becomes an adapter of the model that is patched. Patchers are many for one model, since every node that changes
something makes a clone: what they share counts once.
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
from gpumodels.support.resident import resident
from gpumodels.support.slices import in_slices
from gpumodels.support.torch_private import MODULES
from gpumodels.support.weak_table import KeyedRef, WeakTable
from gpumodels.tensors.module_reader import ModuleReading
from gpumodels.tensors.tensor_storages import StorageReading, TensorAccounts
from gpumodels_shared.file_names import checkpoint_of

UNKNOWN_FILE: Final = ""
"""In place of a file's path where nobody saw it read."""
MODULE: Final = "comfy.model_patcher"
KEYS_PER_STEP: Final = 16
MAX_DEPTH: Final = 4


Layers = dict[str, ModuleReading]
"""By the patched weight's key, what is added to it, as if a module held it."""


@resident
class ComfyLoras:
    """Weak references to live patchers, which nobody registers: their constructor is observed."""

    def __init__(self, accounts: TensorAccounts, failures: Failures, changed: Callable[[], None]) -> None:
        """What it takes.

        Args:
            accounts: read the tensors.
            failures: where what can't be read is counted.
            changed: called when patches came, or a patcher died.
        """
        self._accounts = accounts
        self._failures = failures
        self._changed = changed
        self._patchers: WeakTable[None] = WeakTable(on_death=lambda _: changed())
        self._type: type | None = None
        self._seen: tuple[object, ...] = ()
        self._bases: tuple[FoundModel, ...] = ()
        self._found: list[FoundModel] = []

    def observe(self, observers: Observers) -> None:
        """Nothing of torch's own."""

    def awaited(self, observers: Observers) -> Mapping[str, Callable[[ModuleType], None]]:
        """The module of ComfyUI's patchers, with what observes it when it is there."""

        def comfy(module: ModuleType) -> None:
            self._type = module.ModelPatcher
            observers.observe(module.ModelPatcher.__init__, "noting a ModelPatcher", returned=self._made)
            for name in ("add_patches", "add_hook_patches"):
                observers.observe(vars(self._type).get(name), "noting patches", returned=self._patched)

        return {MODULE: comfy}

    def types(self) -> set[type]:
        """Classes of what was there before: to be looked for once, and given to `add_all`."""
        return all_subclasses(self._type) if self._type is not None else set()

    def add_all(self, patchers: Iterable[Any]) -> None:
        """Patchers that were there before."""
        for patcher in patchers:
            self._patchers.put(patcher, None)

    def adapters(self, models: Sequence[FoundModel], pause: Callable[[], None]) -> list[FoundModel]:
        """The adapters in the patches of these models; the same objects as before where nothing about them changed.

        Args:
            models: the scan's.
            pause: called between slices, while nothing is held: sleeps.
        """
        patchers, seen = self._with_patches()
        bases = tuple(models) if patchers else ()
        if seen != self._seen or bases != self._bases:
            found: list[FoundModel] = []
            in_slices(self._find(patchers, models, found), pause)
            self._seen, self._bases, self._found = seen, bases, found
        return self._found

    def _with_patches(self) -> tuple[list[KeyedRef], tuple[object, ...]]:
        """Patchers of different patches, and what tells whether they are the same as before."""
        patchers: dict[object, KeyedRef] = {}
        for ref in self._patchers.refs():
            with self._failures.guard("looking at a ModelPatcher"):
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
                continue  # another model's own weights, merged into this one: no adapter
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
        """Add what is patched onto the weights of these keys to `adapters`, by base model and file."""
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
                    layers[key] = _together(layers.get(key), reading)

    def _reading(self, patch: tuple[Any, ...], ref: KeyedRef) -> tuple[str, ModuleReading]:
        """The file and the tensors of one patch of a weight: (strength, what is added, strength of the model, …)."""
        storages: list[StorageReading] = []
        parameters: list[tuple[int, int]] = []
        for tensor in _tensors_in(patch[1], self._accounts.tensor_type):
            self._accounts.add_storages(tensor, storages, "lora_patch")
            parameters.append((id(tensor), self._accounts.elements(tensor)))
        kind = type(patch[1])
        class_name = str(patch[1][0]) if kind is tuple else kind.__name__
        paths = {storage.origin.path for storage in storages if storage.origin is not None and storage.origin.path}
        path = checkpoint_of(paths.pop()) if len(paths) == 1 else UNKNOWN_FILE
        return path, ModuleReading(class_name, (), tuple(storages), (), tuple(parameters), False, None, 0, ref)

    def _made(self, frame: FrameType, _result: Any) -> None:
        self._patchers.put(frame.f_locals["self"], None)

    def _patched(self, _frame: FrameType, _result: Any) -> None:
        self._changed()


def _tables(state: Mapping[str, Any]) -> list[dict[Any, Any]]:
    """Patches by weight's key: those for always, and those of each hook."""
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
    """The model that the weight of this key belongs to: a patched module may hold several, as a pair of text encoders does."""
    for name in (*key.split("."), ""):
        if module is None:
            return None
        for model in models:
            if model.adapter is None and id(module) in model.members:
                return model
        module = state_of(module).get(MODULES, {}).get(name)
    return None


def _together(one: ModuleReading | None, other: ModuleReading) -> ModuleReading:
    """What two patches of one weight hold: the same, where they are those of two clones."""
    if one is None:
        return other
    known = {storage.key for storage in one.storages}
    return one._replace(
        storages=(*one.storages, *(storage for storage in other.storages if storage.key not in known)),
        parameters=tuple({**dict(one.parameters), **dict(other.parameters)}.items()),
    )
