"""Reads a module's own state as plain data: its children and the storages of its tensors. No strong reference is returned."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import count
from types import MethodType
from typing import Any, Final, NamedTuple

from gpumodels.provenance.labels import LABELS
from gpumodels.support.instances import has_more_than_state, mro_of, name_of, package_of, state_getter, with_slots_and_items
from gpumodels.support.module_tables import entries_of
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.torch_private import BUFFERS, LOAD_HOOKS, MODULES, PARAMETERS, TRACED
from gpumodels.support.weak_table import KeyedRef, WeakTable
from gpumodels.tensors.extra_tensors import MAX_ITEMS, NO_EXTRA_TENSORS, ExtraTensors, offloaded_copy, offloaded_file
from gpumodels.tensors.forward_holders import HELD_BY_FORWARD, HOOKS, ForwardHolders
from gpumodels.tensors.packed_parameters import PackedParameters
from gpumodels.tensors.paged_modules import ALLOCATION, VBARS, allocation_in
from gpumodels.tensors.replaced_weights import with_replaced_weights
from gpumodels.tensors.script_modules import ScriptModules
from gpumodels.tensors.sharded_parameters import tensors_of_shards
from gpumodels.tensors.tensor_storages import UNREADABLE, TensorReader, TensorStorage


@never_pickled
class ModuleReading(NamedTuple):
    """What a module itself holds, its children's contents excluded."""

    class_name: str
    children: tuple[tuple[str, int], ...]
    """Names and ids of its child modules."""
    storages: tuple[TensorStorage, ...]
    """The storages of its parameters, buffers and other weights."""
    caches: tuple[TensorStorage, ...]
    """The storages of what it made while running and keeps for the next step: not part of the model."""
    parameters: tuple[tuple[int, int], ...]
    """Its own parameters: identity and number of elements; those of packed weights before they were packed."""
    has_identity: bool
    """Whether its class derives from one by which a library marks complete models: see MODEL_CLASSES."""
    attached_to: int | None
    """The id of the module whose `forward` it replaces, as kohya's LoRA modules do."""
    stamp: int
    """A hash of the module's state, equal as long as nothing changed: see `ModuleReader._stamp`. Or `CHANGED_MEANWHILE`."""
    ref: KeyedRef
    """A reference to the module that was read; another module may have its id by now."""
    unregistered: tuple[UnregisteredModule, ...] = ()
    """Modules in its plain attributes, not registered with torch."""
    unread: int = 0
    """How many of its tensors or packed weights have an unknown size."""
    is_lightning: bool = False
    """Whether it is a LightningModule, a wrapper of the actual network."""
    held: tuple[HeldTensor, ...] = ()
    """Tensors of adapters that the functions hold which replace its `forward` or are called around it."""
    has_functions: bool = False
    """Whether there are such functions."""
    is_engine: bool = False
    """Whether it is a training engine, a wrapper whose optimizer keeps the weights a second time."""
    originals: tuple[int, ...] = ()
    """Of a script module, the ids of the Python modules that it was made from."""
    is_labelled: bool = False
    """Whether the program itself says that it is a model."""

    def is_unchanged_from(self, other: ModuleReading) -> bool:
        """Whether all fields but `ref` are equal. Comparing references would compare the modules, running their code."""
        return self[:_REF] == other[:_REF] and self[_REF + 1 :] == other[_REF + 1 :]


_REF: Final = ModuleReading._fields.index("ref")
CHANGED_MEANWHILE: Final = 0
"""The stamp of a module that was changed while it was read, which it is to be again."""


@never_pickled
class UnregisteredModule(NamedTuple):
    """A module that another one keeps in a plain attribute, perhaps inside lists, dicts or objects, unregistered with torch."""

    path: str
    """The attribute's name, then keys: `layers.0`."""
    key: int
    """The `id()` of the unregistered module."""
    through_object: bool
    """Whether the path leads through an object that isn't a module."""


@never_pickled
class HeldTensor(NamedTuple):
    """A tensor of an adapter that a function around a module's `forward` holds."""

    name: str
    holder: str
    """The name of the function, or of the class of the object, that holds it."""
    storages: tuple[TensorStorage, ...]
    parameter: tuple[int, int]
    """Its identity and number of elements."""


@never_pickled
class _ClassFacts(NamedTuple):
    """What is read from a module's class."""

    ref: weakref.ref[type]
    name: str
    has_identity: bool
    is_lightning: bool
    is_script: bool
    is_engine: bool


_Tables = tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]]
"""The `_modules`, `_parameters` and `_buffers` of a module, or of its TorchScript equivalents."""


@never_pickled
class _UnpackedWeights(NamedTuple):
    """The sizes of packed weights."""

    sizes: list[tuple[str, int]] | None
    """Dtype and bytes of each tensor that they unpack to; None if they can't be unpacked."""
    number: int
    """Identifies them, in place of a storage's identity."""
    elements: int
    """How many weights and biases they are."""


@never_pickled
class ModuleReader:
    """Reads modules without running their code: instance dictionaries only, no attribute look-ups on modules."""

    def __init__(self, tensor_reader: TensorReader) -> None:
        torch, failures = tensor_reader.torch, tensor_reader.failures
        self._tensor_reader = tensor_reader
        self._plain_types = tensor_reader.plain_types
        self._strided = torch.strided
        self.module_type: type = torch.nn.Module
        self.tensor_type: type = torch.Tensor
        self._state_of = state_getter(self.module_type)
        self._holders = ForwardHolders(torch)
        self._scripts = ScriptModules(torch, failures)
        self._packed_parameters = PackedParameters(torch)
        self._unpacked: WeakTable[dict[tuple[str, int], _UnpackedWeights]] = WeakTable()
        """For modules with packed weights: what these unpack to, by attribute and identity."""
        self._numbers = count(1)
        self.paged_models: WeakTable[None] = WeakTable()
        """Modules that have VBARs: with all below them, models of which single pages are on their device."""
        self._classes: dict[int, _ClassFacts] = {}
        """By id, as a class may have a metaclass that defines `__hash__`."""
        self._with_more: set[int] = set()
        """Ids of those classes whose objects hold more than their instance dictionaries do."""

    def begin_scan(self) -> None:
        """Begin a new scan of all modules."""
        self._tensor_reader.attributes.begin_scan()

    def changed(self, refs: Sequence[KeyedRef], known: Mapping[int, ModuleReading]) -> list[KeyedRef]:
        """Those of the live modules whose state differs from their known reading, or that have none.

        Args:
            refs: the modules to check.
            known: the latest readings, by module id.
        """
        different: list[KeyedRef] = []
        for ref in refs:
            module = ref()
            if module is None:
                continue
            reading = known.get(ref.key)
            if reading is None or reading.ref is not ref or reading.stamp != self._stamp(self._held_by(module)):
                different.append(ref)
        return different

    def read(self, ref: KeyedRef, known: Mapping[int, Any], add: Callable[[Any], None]) -> ModuleReading | None:
        """The module's state; None if it died or isn't initialised yet.

        Args:
            ref: the module.
            known: the registered modules, by id.
            add: called with each child that isn't registered, to register modules whose construction wasn't observed.
        """
        module = ref()
        if module is None:
            return None
        class_facts = self._class_facts(type(module))
        state = self._held_by(module)
        tables = _tables(state)
        if tables is None:
            return None  # its __init__ hasn't run yet
        modules, parameters, buffers = tables
        children: tuple[tuple[str, int], ...] = ()
        storages: list[TensorStorage] = []
        caches: list[TensorStorage] = []
        elements: list[tuple[int, int]] = []
        unregistered: list[UnregisteredModule] = []
        held: tuple[HeldTensor, ...] = ()
        has_functions = "forward" in state or bool(state.get(HOOKS[0]) or state.get(HOOKS[1]))
        stamp, unread, is_complete = 0, 0, False
        if VBARS in state:
            self.paged_models.put(module, None)
        try:
            if named_children := entries_of(modules):
                children = tuple([(name, id(child)) for name, child in named_children])
                for _, child in named_children:
                    if id(child) not in known:
                        add(child)
            # The stamp is taken first: what the host changes meanwhile then differs from it, and is read again by the next scan.
            # Unless it has changed back by then, as FSDP2 gathers parameters and frees them: so whatever isn't read along with
            # the stamp is between two of them.
            stamp = self._stamp(state, storages, elements)
            was_read_alone = not stamp or "_hf_hook" in state
            if was_read_alone:
                storages, elements = [], []
                stamp = self._stamp(state)
                unread += self._add_tensors(state, parameters, storages, elements)
                unread += self._add_tensors(state, buffers, storages, None)
            found = self._tensor_reader.attributes.of(state)
            if found is not NO_EXTRA_TENSORS:
                if not self._class_facts(type(module)).is_engine:
                    unread += self._add_extra(module, found, storages, caches, elements)
                unregistered += self._unregistered_modules(module, found, children)
                for _, other, _ in found.modules:
                    add(other)
            if self._packed_parameters.may_hold(state, [storage.dtype for storage in storages]):
                with suppress(*UNREADABLE):  # they are counted as torch counts them
                    elements = self._packed_parameters.counted(state, modules, parameters, buffers, elements)
            if state.get(LOAD_HOOKS):
                unread += self._add_shards(state, storages)
            if has_functions:
                held = self._add_held(state, children, unregistered, add)
            if (was_read_alone or state.get(LOAD_HOOKS) or found is not NO_EXTRA_TENSORS) and stamp != self._stamp(state):
                stamp = CHANGED_MEANWHILE
            is_complete = True
        except Exception as error:  # noqa: BLE001  # as `guard` does, which would cost more per module than the rest
            self._tensor_reader.failures.note("reading a part of a module", error)
        class_name = class_facts.name
        originals: tuple[int, ...] = ()
        if class_facts.is_script:
            originals = self._scripts.originals(state)
            class_name = self._scripts.class_name(state) or class_name
            unread += self._add_script_tensors(module, state, storages)
        return ModuleReading(
            class_name,
            children,
            tuple(storages),
            tuple(caches),
            tuple(elements),
            class_facts.has_identity,
            _attached_to(state) if "org_forward" in state else None,
            stamp,
            ref,
            tuple(unregistered),
            unread if is_complete else unread + 1,
            class_facts.is_lightning,
            held,
            has_functions,
            class_facts.is_engine,
            originals,
            id(module) in LABELS,
        )

    def _add_tensors(
        self,
        state: dict[str, Any],
        tensors: Mapping[str, Any],
        storages: list[TensorStorage],
        elements: list[tuple[int, int]] | None,
    ) -> int:
        """Add the storages of a module's parameters or buffers; returns how many of these have an unknown size."""
        unread = 0
        tensor_reader = self._tensor_reader
        has_hook = "_hf_hook" in state
        for name, tensor in entries_of(tensors):
            if elements is not None:
                elements.append((id(tensor), tensor_reader.elements(tensor)))
            unread += tensor_reader.add_storages(
                self._tensor_or_copy(state, name, tensor) if has_hook else tensor, storages, name
            )
        return unread

    def _add_extra(
        self,
        module: Any,
        found: ExtraTensors,
        storages: list[TensorStorage],
        caches: list[TensorStorage],
        elements: list[tuple[int, int]],
    ) -> int:
        """Add the storages of tensors in plain attributes; returns how many of these have an unknown size."""
        unread = 0
        for name, tensor, is_cache in found.tensors:
            if self._tensor_reader.is_meta(tensor):
                continue  # a description of weights that are elsewhere, as in a state dict that was kept
            unread += self._tensor_reader.add_storages(tensor, caches if is_cache else storages, name)
        for name, packed in found.packed:
            unread += self._add_packed(module, name, packed, id(packed), storages, elements)
        return unread

    def _add_shards(self, state: dict[str, Any], storages: list[TensorStorage]) -> int:
        """Add what FSDP2 keeps besides the registered parameters; returns how many tensors have an unknown size."""
        unread = 0
        known = {storage.key for storage in storages}
        for name, tensor in tensors_of_shards(state, self._tensor_reader.tensor_type):
            found: list[TensorStorage] = []
            unread += self._tensor_reader.add_storages(tensor, found, name)
            storages += [storage for storage in found if storage.key not in known]
            known.update(storage.key for storage in found)
        return unread

    def _add_held(
        self,
        state: dict[str, Any],
        children: Sequence[tuple[str, int]],
        unregistered: list[UnregisteredModule],
        add: Callable[[Any], None],
    ) -> tuple[HeldTensor, ...]:
        """What the functions around its `forward` hold: adapters' modules are added to `unregistered`, tensors are returned."""
        tensors, modules = self._holders.held(state)
        met = {key for _, key in children} | {one.key for one in unregistered}
        for path, _, other, is_adapter in modules:
            if is_adapter and id(other) not in met:
                add(other)
                unregistered.append(UnregisteredModule(HELD_BY_FORWARD + path, id(other), False))
        found: list[HeldTensor] = []
        for path, holder, tensor, is_adapter in tensors:
            if not is_adapter:
                continue
            storages: list[TensorStorage] = []
            self._tensor_reader.add_storages(tensor, storages, path.rpartition(".")[2])
            identity = id(tensor), self._tensor_reader.elements(tensor)
            found.append(HeldTensor(path, holder, tuple(storages), identity))
        return tuple(found)

    def _unregistered_modules(
        self, module: Any, found: ExtraTensors, children: Sequence[tuple[str, int]]
    ) -> list[UnregisteredModule]:
        """The modules in plain attributes, each once; the module itself is included only if an object leads back to it."""
        met = {key for _, key in children}
        unregistered: list[UnregisteredModule] = []
        for path, other, through_object in found.modules:
            if id(other) not in met and (through_object or other is not module):
                met.add(id(other))
                unregistered.append(UnregisteredModule(path, id(other), through_object))
        return unregistered

    def _held_by(self, module: Any) -> dict[str, Any]:
        """The module's instance dictionary; of those that have weights elsewhere, too, as in slots, a copy with these."""
        state = self._state_of(module)
        if self._tensor_reader.patchers and (patcher := self._tensor_reader.patchers.get(id(module))) is not None:
            state = with_replaced_weights(state, module, patcher)
        if self._with_more and id(type(module)) in self._with_more:
            return with_slots_and_items(module, state, MAX_ITEMS)
        return state

    def _class_facts(self, kind: type) -> _ClassFacts:
        known = self._classes.get(id(kind))
        if known is None or known.ref() is not kind:
            names = {name_of(base) for base in mro_of(kind)}
            known = self._classes[id(kind)] = _ClassFacts(
                ref=weakref.ref(kind),
                name=_class_name(kind),
                has_identity=not names.isdisjoint(MODEL_CLASSES),
                is_lightning="LightningModule" in names,
                is_script=self._scripts.has(kind),
                is_engine=any(name_of(base) in ENGINES and package_of(base) == ENGINES[name_of(base)] for base in mro_of(kind)),
            )
            (self._with_more.add if has_more_than_state(kind) else self._with_more.discard)(id(kind))
        return known

    def _tensor_or_copy(self, state: dict[str, Any], name: str, tensor: Any) -> Any:
        """The tensor itself, or, if it is on `meta`, the copy from which accelerate's hook will restore it, if there is one."""
        if self._tensor_reader.is_meta(tensor):
            copy = offloaded_copy(state, name)
            if copy is not None:
                return copy
            file = offloaded_file(state, name)
            if file is not None:
                self._tensor_reader.note_offloaded(tensor, file)
        return tensor

    def _add_script_tensors(self, module: Any, state: dict[str, Any], storages: list[TensorStorage]) -> int:
        """Add what a script module holds besides parameters and buffers; returns how many parts have an unknown size."""
        unread = 0
        known = {storage.key for storage in storages}
        tensor_type = self._tensor_reader.tensor_type
        for name, value in self._scripts.tensors(state):
            if tensor_type not in mro_of(type(value)):
                unread += self._add_packed(module, name, value, 0, storages)
                continue
            found: list[TensorStorage] = []
            unread += self._tensor_reader.add_storages(value, found, name)
            storages += [storage for storage in found if storage.key not in known]
            known.update(storage.key for storage in found)
        return unread

    def _add_packed(
        self,
        module: Any,
        name: str,
        packed: Any,
        identity: int,
        storages: list[TensorStorage],
        elements: list[tuple[int, int]] | None = None,
    ) -> int:
        """Add packed weights by the sizes of what they unpack to; returns 1 if these are unknown, else 0.

        They are unpacked only once, as this briefly takes the same amount of memory again.
        """
        known = self._unpacked.get(module)
        if known is None:
            known = {}
            self._unpacked.put(module, known)
        unpacked = known.get((name, identity))
        if unpacked is None:
            tensors = self._scripts.unpacked(packed)
            found: list[TensorStorage] = []
            for tensor in tensors or ():
                self._tensor_reader.add_storages(tensor, found)
            distinct = {storage.key: (storage.dtype, storage.size_bytes) for storage in found}
            sizes = None if tensors is None else list(distinct.values())
            # An object that several modules hold is identified by its address; TorchScript returns a new one at every access.
            number = identity or 64 * next(self._numbers)
            weights = [tensor for tensor in tensors or () if tensor.is_quantized or tensor.is_floating_point()]
            unpacked = known[name, identity] = _UnpackedWeights(sizes, number, sum(map(self._tensor_reader.elements, weights)))
        if elements is not None:
            elements.append((unpacked.number, unpacked.elements))
        for number, (dtype, size) in enumerate(unpacked.sizes or ()):
            storages.append(TensorStorage((HOST, -unpacked.number - number), dtype, size, None, name))
        return int(unpacked.sizes is None)

    def _stamp(
        self,
        state: dict[str, Any],
        storages: list[TensorStorage] | None = None,
        elements: list[tuple[int, int]] | None = None,
    ) -> int:
        """A hash of everything that a reading depends on: names and identities, devices, storages and their sizes.

        If the lists are given, the storages and elements of parameters and buffers are added to them along the way. Returns 0 if
        these aren't all plain tensors: the lists are then incomplete.

        Computed for every module in every scan, at about 1 µs each. A new tensor with the id, device, storage address and size of
        a freed one isn't noticed: it holds as many bytes on the same device, and `OriginTracker.version` reports that its values
        have another origin.
        """
        try:
            modules, parameters, buffers = state[MODULES], state[PARAMETERS], state[BUFFERS]
        except KeyError:  # the wrapper of a traced module
            return hash(id(state.get(TRACED)))
        if type(modules) is not dict:
            modules = dict(entries_of(modules))
        stamp: list[Any] = [*modules.keys(), *map(id, modules.values())] if modules else []
        tensor_reader, plain_types, strided = self._tensor_reader, self._plain_types, self._strided
        identity_of = tensor_reader.identity_of_storage
        for tensors in (parameters, buffers) if type(buffers) is not dict or buffers else (parameters,):
            for name, tensor in tensors.items() if type(tensors) is dict else entries_of(tensors):
                if type(tensor) in plain_types:
                    try:
                        storage = tensor.untyped_storage()
                    except UNREADABLE:  # sparse, opaque
                        storage = None
                    if storage is not None:
                        device, identity, size = tensor.device, identity_of(storage), storage.nbytes()
                        stamp += (name, id(tensor), device, identity, size)
                        if tensor.__dict__:
                            stamp += tensor_reader.stamp(tensor)
                        elif storages is not None and tensor.layout is strided:
                            if elements is not None and tensors is parameters:
                                elements.append((id(tensor), tensor.numel()))
                            storages.append(tensor_reader.plain_storage(tensor, storage, device, identity, size, name))
                            continue
                    else:
                        stamp += (name, id(tensor), tensor_reader.stamp(tensor))
                elif tensor is not None:
                    stamp += (name, id(tensor), tensor_reader.stamp(tensor))
                else:
                    continue
                if storages is not None:
                    return 0
        if "forward" in state or state.get(HOOKS[0]) or state.get(HOOKS[1]):
            for some in self._holders.held(state):
                for _, _, value, is_adapter in some:
                    if is_adapter:
                        is_tensor = self.tensor_type in mro_of(type(value))
                        stamp += (id(value), tensor_reader.stamp(value)) if is_tensor else (id(value),)
        found = tensor_reader.attributes.of(state)
        if found is not NO_EXTRA_TENSORS:
            for name, tensor, _ in found.tensors:
                stamp += (name, id(tensor), self._tensor_reader.stamp(tensor))
            for path, module, _ in found.modules:
                stamp += (path, id(module))
            for name, packed in found.packed:
                stamp += (name, id(packed))
        if ALLOCATION in state or VBARS in state:
            stamp += (VBARS in state, allocation_in(state))
        if state.get(LOAD_HOOKS):
            for name, tensor in tensors_of_shards(state, self._tensor_reader.tensor_type):
                stamp += (name, id(tensor), self._tensor_reader.stamp(tensor))
        return hash(tuple(stamp))


def _tables(state: dict[str, Any]) -> _Tables | None:
    """The module's tables; None if it isn't initialised. A traced module has only its script module."""
    try:
        return state[MODULES], state[PARAMETERS], state[BUFFERS]
    except KeyError:
        inner = state.get(TRACED)
        return None if inner is None else ({TRACED: inner}, {}, {})


HOST: Final = "cpu"
MODEL_CLASSES: Final = frozenset({"PreTrainedModel", "ModelMixin", "SentenceTransformer"})
"""The base classes of complete models in transformers, diffusers and sentence-transformers."""
ENGINES: Final = {"DeepSpeedEngine": "deepspeed", "InferenceEngine": "deepspeed"}
"""By class, the package of modules that run another one: tensors in their plain attributes are losses, norms and counters."""


def _class_name(kind: type) -> str:
    """The class's name as the host wrote it: `fully_shard` gives each module a class of its own, `FSDPLinear` for a `Linear`."""
    mro = mro_of(kind)
    is_sharded = len(mro) > 2 and name_of(mro[1]) == "FSDPModule"
    return name_of(mro[2] if is_sharded else kind)


def _attached_to(state: dict[str, Any]) -> int | None:
    replaced = state.get("org_forward")
    return id(replaced.__self__) if type(replaced) is MethodType else None
