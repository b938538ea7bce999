"""One module's own state as plain data: its children and the storages of its tensors. No strong reference leaves this room."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from types import MethodType
from typing import Any, Final, NamedTuple

from gpumodels.support.instances import mro_of, name_of, state_getter
from gpumodels.support.resident import resident
from gpumodels.support.weak_table import KeyedRef, WeakTable
from gpumodels.tensors.extra_tensors import NOTHING, Held, offloaded_copy
from gpumodels.tensors.script_modules import ScriptModules
from gpumodels.tensors.tensor_storages import UNREADABLE, StorageReading, TensorAccounts


@resident
class ModuleReading(NamedTuple):
    """What one module itself holds."""

    class_name: str
    children: tuple[tuple[str, int], ...]
    """Names and ids of the modules below."""
    storages: tuple[StorageReading, ...]
    caches: tuple[StorageReading, ...]
    """What it made while it ran and keeps for the next step: not part of the model."""
    parameters: tuple[tuple[int, int], ...]
    """Its own parameters: identity and elements."""
    has_identity: bool
    """A library says of its class: this is a model."""
    attached_to: int | None
    """The id of the module whose `forward` it stands in for, as kohya's LoRA modules do."""
    stamp: int
    """Equal stamps, nothing changed: see `ModuleReader._stamp`."""
    ref: KeyedRef
    """To the module that was read: another one may have its id by now."""
    aside: tuple[Aside, ...] = ()
    """Modules in its plain attributes."""
    unread: int = 0
    """How many of its tensors, or packed weights, have a size that nobody knows."""
    is_lightning: bool = False
    """It is a LightningModule: what it is about is the network in it."""

    def says_the_same(self, other: ModuleReading) -> bool:
        """Whether nothing changed. References aren't compared: that would compare the modules, by code of theirs."""
        return self[:_REF] == other[:_REF] and self[_REF + 1 :] == other[_REF + 1 :]


_REF: Final = ModuleReading._fields.index("ref")


@resident
class Aside(NamedTuple):
    """A module that another one keeps in a plain attribute, in lists, dicts and objects: torch doesn't know of it."""

    path: str
    """Attribute, then keys: `layers.0`."""
    key: int
    through_object: bool
    """The path leads through an object that is no module."""


@resident
class _Class(NamedTuple):
    """What a module's class says."""

    ref: weakref.ref[type]
    name: str
    has_identity: bool
    is_lightning: bool
    is_script: bool


_Tables = tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]]
"""A module's own tables, TorchScript's included: modules, parameters, buffers."""


@resident
class _Unpacked(NamedTuple):
    """What packed weights unpack to."""

    sizes: list[tuple[str, int]] | None
    """Dtype and bytes of each tensor; None where nobody knows."""
    number: int


@resident
class ModuleReader:
    """Reads modules without running their code: instance dictionaries only, no attribute look-ups on modules."""

    def __init__(self, accounts: TensorAccounts) -> None:
        torch, failures = accounts.torch, accounts.failures
        self._accounts = accounts
        self._plain_types = accounts.plain_types
        self._strided = torch.strided
        self.module_type: type = torch.nn.Module
        self._state_of = state_getter(self.module_type)
        self._scripts = ScriptModules(torch, failures)
        self._unpacked: WeakTable[dict[tuple[str, int], _Unpacked]] = WeakTable()
        """Of modules with packed weights, what these unpack to, by attribute and identity."""
        self._numbers = count(1)
        self._classes: dict[int, _Class] = {}
        """By id: a class may have a metaclass with a hash of its own."""

    def look_again(self) -> None:
        """A new look at all modules begins."""
        self._accounts.attributes.look_again()

    def changed(self, refs: Sequence[KeyedRef], known: Mapping[int, ModuleReading]) -> list[KeyedRef]:
        """Those that live and hold something else than is known of them."""
        different: list[KeyedRef] = []
        for ref in refs:
            module = ref()
            if module is None:
                continue
            reading = known.get(ref.key)
            if reading is None or reading.ref is not ref or reading.stamp != self._stamp(self._state_of(module)):
                different.append(ref)
        return different

    def read(self, ref: KeyedRef, known: Mapping[int, Any], add: Callable[[Any], None]) -> ModuleReading | None:
        """The module's state; None if it died or is not initialised yet.

        Args:
            ref: the module.
            known: the modules that are known, by id.
            add: given each child that isn't: a module that registered with no hook is known from then on.
        """
        module = ref()
        if module is None:
            return None
        state = self._state_of(module)
        tables = _tables(state)
        if tables is None:
            return None  # its __init__ hasn't run yet
        modules, parameters, buffers = tables
        children: tuple[tuple[str, int], ...] = ()
        storages: list[StorageReading] = []
        caches: list[StorageReading] = []
        elements: list[tuple[int, int]] = []
        aside: list[Aside] = []
        stamp, unread, is_complete = 0, 0, False
        try:
            if modules:
                held = [(name, child) for name, child in modules.items() if child is not None]
                children = tuple([(name, id(child)) for name, child in held])
                for _, child in held:
                    if id(child) not in known:
                        add(child)
            # The stamp before the rest: what the host changes meanwhile is read again at the next look, as the stamp is older.
            stamp = self._stamp(state, storages, elements)
            if not stamp or "_hf_hook" in state:
                storages, elements = [], []
                stamp = self._stamp(state)
                unread += self._add_tensors(state, parameters, storages, elements)
                unread += self._add_tensors(state, buffers, storages, None)
            found = self._accounts.attributes.of(state)
            if found is not NOTHING:
                unread += self._add_attributes(module, found, storages, caches)
                aside += self._asides(module, found, children)
                for _, other, _ in found.modules:
                    add(other)
            is_complete = True
        except Exception as error:  # noqa: BLE001  # as in a guard, of which one a module would take longer than all the rest
            self._accounts.failures.note("reading a part of a module", error)
        kind = self._class_of(type(module))
        class_name = kind.name
        if kind.is_script:
            class_name = self._scripts.class_name(state) or class_name
            unread += self._add_out_of_sight(module, state, storages)
        return ModuleReading(
            class_name,
            children,
            tuple(storages),
            tuple(caches),
            tuple(elements),
            kind.has_identity,
            _attached_to(state) if "org_forward" in state else None,
            stamp,
            ref,
            tuple(aside),
            unread if is_complete else unread + 1,
            kind.is_lightning,
        )

    def _add_tensors(
        self,
        state: dict[str, Any],
        tensors: Mapping[str, Any],
        storages: list[StorageReading],
        elements: list[tuple[int, int]] | None,
    ) -> int:
        """Add the storages behind a module's parameters or buffers; how many of them have a size that nobody knows."""
        unread = 0
        accounts = self._accounts
        has_hook = "_hf_hook" in state
        for name, tensor in [*tensors.items()]:
            if tensor is None:
                continue
            if elements is not None:
                elements.append((id(tensor), accounts.elements(tensor)))
            unread += accounts.add_storages(self._where_it_is(state, name, tensor) if has_hook else tensor, storages, name)
        return unread

    def _add_attributes(self, module: Any, found: Held, storages: list[StorageReading], caches: list[StorageReading]) -> int:
        """The same of what lies in its plain attributes."""
        unread = 0
        for name, tensor, is_cache in found.tensors:
            unread += self._accounts.add_storages(tensor, caches if is_cache else storages, name)
        for name, packed in found.packed:
            unread += self._add_packed(module, name, packed, id(packed), storages)
        return unread

    def _asides(self, module: Any, found: Held, children: Sequence[tuple[str, int]]) -> list[Aside]:
        """Modules in plain attributes, each once; the module itself only where an object leads back to it."""
        met = {key for _, key in children}
        aside: list[Aside] = []
        for path, other, through_object in found.modules:
            if id(other) not in met and (through_object or other is not module):
                met.add(id(other))
                aside.append(Aside(path, id(other), through_object))
        return aside

    def _class_of(self, kind: type) -> _Class:
        known = self._classes.get(id(kind))
        if known is None or known.ref() is not kind:
            names = {name_of(base) for base in mro_of(kind)}
            known = self._classes[id(kind)] = _Class(
                ref=weakref.ref(kind),
                name=_class_name(kind),
                has_identity=not names.isdisjoint(MODEL_CLASSES),
                is_lightning="LightningModule" in names,
                is_script=self._scripts.has(kind),
            )
        return known

    def _where_it_is(self, state: dict[str, Any], name: str, tensor: Any) -> Any:
        """The tensor itself; for one on `meta` the copy that accelerate's hook will bring back, if it keeps one."""
        if self._accounts.is_meta(tensor):
            copy = offloaded_copy(state, name)
            return tensor if copy is None else copy
        return tensor

    def _add_out_of_sight(self, module: Any, state: dict[str, Any], storages: list[StorageReading]) -> int:
        """Add what a script module holds beside its parameters and buffers; how much of it has no known size."""
        unread = 0
        known = {storage.key for storage in storages}
        tensor_type = self._accounts.tensor_type
        for name, value in self._scripts.tensors(state):
            if tensor_type not in mro_of(type(value)):
                unread += self._add_packed(module, name, value, 0, storages)
                continue
            found: list[StorageReading] = []
            unread += self._accounts.add_storages(value, found, name)
            storages += [storage for storage in found if storage.key not in known]
            known.update(storage.key for storage in found)
        return unread

    def _add_packed(self, module: Any, name: str, packed: Any, identity: int, storages: list[StorageReading]) -> int:
        """Add packed weights, by what they unpack to; 1 where nobody knows how large they are.

        They are unpacked once: that takes as much memory again for a moment.
        """
        known = self._unpacked.get(module)
        if known is None:
            known = {}
            self._unpacked.put(module, known)
        unpacked = known.get((name, identity))
        if unpacked is None:
            tensors = self._scripts.unpacked(packed)
            found: list[StorageReading] = []
            for tensor in tensors or ():
                self._accounts.add_storages(tensor, found)
            distinct = {storage.key: (storage.dtype, storage.size_bytes) for storage in found}
            sizes = None if tensors is None else list(distinct.values())
            # An object that several modules hold is told by its address; TorchScript hands out another one each time.
            unpacked = known[name, identity] = _Unpacked(sizes, identity or 64 * next(self._numbers))
        for number, (dtype, size) in enumerate(unpacked.sizes or ()):
            storages.append(StorageReading((HOST, -unpacked.number - number), dtype, size, None, name))
        return int(unpacked.sizes is None)

    def _stamp(
        self,
        state: dict[str, Any],
        storages: list[StorageReading] | None = None,
        elements: list[tuple[int, int]] | None = None,
    ) -> int:
        """A hash of all that a reading depends on: names and identities, devices, storages and their sizes.

        Where the lists are given, what it comes by is added to them, of parameters and buffers; 0 where these aren't all plain
        tensors, so that the lists are of no use.

        It is made at every look at every module: about 1 µs. A tensor that takes a freed one's place in every respect, with
        its storage's address and size on the same device, holds as many bytes in the same place; that its values came from
        another file is the provenance's to tell.
        """
        try:
            modules, parameters, buffers = state["_modules"], state["_parameters"], state["_buffers"]
        except KeyError:  # a traced module's shell
            return hash(id(state.get(TRACED)))
        stamp: list[Any] = [*modules.keys(), *map(id, modules.values())] if modules else []
        accounts, plain_types, strided = self._accounts, self._plain_types, self._strided
        for tensors in (parameters, buffers) if buffers else (parameters,):
            for name, tensor in tensors.items():
                if type(tensor) in plain_types:
                    try:
                        storage = tensor.untyped_storage()
                    except UNREADABLE:  # sparse, opaque
                        storage = None
                    if storage is not None:
                        device, identity, size = tensor.device, storage._cdata, storage.nbytes()
                        stamp += (name, id(tensor), device, identity, size)
                        if tensor.__dict__:
                            stamp += accounts.stamp(tensor)
                        elif storages is not None and tensor.layout is strided:
                            if elements is not None and tensors is parameters:
                                elements.append((id(tensor), tensor.numel()))
                            storages.append(accounts.plain_storage(tensor, storage, device, identity, size, name))
                            continue
                    else:
                        stamp += (name, id(tensor), accounts.stamp(tensor))
                elif tensor is not None:
                    stamp += (name, id(tensor), accounts.stamp(tensor))
                else:
                    continue
                if storages is not None:
                    return 0
        found = accounts.attributes.of(state)
        if found is not NOTHING:
            for name, tensor, _ in found.tensors:
                stamp += (name, id(tensor), self._accounts.stamp(tensor))
            for path, module, _ in found.modules:
                stamp += (path, id(module))
            for name, packed in found.packed:
                stamp += (name, id(packed))
        return hash(tuple(stamp))


def _tables(state: dict[str, Any]) -> _Tables | None:
    """None for a module that isn't initialised; a traced one has nothing but the script module in it."""
    try:
        return state["_modules"], state["_parameters"], state["_buffers"]
    except KeyError:
        inner = state.get(TRACED)
        return None if inner is None else ({TRACED: inner}, {}, {})


HOST: Final = "cpu"
TRACED: Final = "_actual_script_module"
"""What a traced module keeps its script module under, and nothing else."""
MODEL_CLASSES: Final = frozenset({"PreTrainedModel", "ModelMixin", "SentenceTransformer"})
"""The base classes by which libraries say: this is a model (transformers, diffusers, sentence-transformers)."""


def _class_name(kind: type) -> str:
    """What the host wrote: `fully_shard` gives each module a class of its own, `FSDPLinear` for a `Linear`."""
    mro = mro_of(kind)
    is_sharded = len(mro) > 2 and name_of(mro[1]) == "FSDPModule"
    return name_of(mro[2] if is_sharded else kind)


def _attached_to(state: dict[str, Any]) -> int | None:
    replaced = state.get("org_forward")
    return id(replaced.__self__) if type(replaced) is MethodType else None
