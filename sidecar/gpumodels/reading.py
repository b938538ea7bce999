"""One module's own state as plain data: its children and the storages of its tensors. No strong reference leaves this room."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MethodType
from typing import Any, Final, NamedTuple

from gpumodels.accounting import StorageReading, TensorAccounts
from gpumodels.attributes import offloaded_copy
from gpumodels.resident import resident
from gpumodels.weak_table import KeyedRef


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


@resident
class ModuleReader:
    """Reads modules without running their code: instance dictionaries only, no attribute look-ups on modules."""

    def __init__(self, accounts: TensorAccounts) -> None:
        self._accounts = accounts
        self._plain_types = accounts.plain_types

    def changed(
        self, refs: Sequence[KeyedRef], known: Mapping[int, ModuleReading], same: dict[int, ModuleReading]
    ) -> list[KeyedRef]:
        """Those that live and hold something else than is known of them; what is known of the others goes to `same`."""
        different: list[KeyedRef] = []
        for ref in refs:
            module = ref()
            if module is None:
                continue
            reading = known.get(ref.key)
            if reading is not None and reading.ref is ref and reading.stamp == self._stamp(module.__dict__):
                same[ref.key] = reading
            else:
                different.append(ref)
        return different

    def read(self, ref: KeyedRef, add: Callable[[Any], None]) -> ModuleReading | None:
        """The module's state; None if it died or is not initialised yet.

        Args:
            ref: the module.
            add: given each child: a module that registered with no hook is known from then on.
        """
        module = ref()
        if module is None:
            return None
        state = module.__dict__
        try:
            modules, parameters, buffers = state["_modules"], state["_parameters"], state["_buffers"]
        except KeyError:
            return None  # its __init__ hasn't run yet
        # The stamp first: what the host changes meanwhile is read again at the next look, as the stamp is older.
        stamp = self._stamp(state)
        children: tuple[tuple[str, int], ...] = ()
        if modules:
            held = [(name, child) for name, child in modules.items() if child is not None]
            children = tuple([(name, id(child)) for name, child in held])
            for _, child in held:
                add(child)
        storages: list[StorageReading] = []
        elements: list[tuple[int, int]] = []
        for name, tensor in [*parameters.items()]:
            if tensor is not None:
                elements.append((id(tensor), self._accounts.elements(tensor)))
                self._accounts.add_storages(self._where_it_is(state, name, tensor), storages, name)
        for name, tensor in [*buffers.items()] if buffers else ():
            if tensor is not None:
                self._accounts.add_storages(self._where_it_is(state, name, tensor), storages, name)
        caches: list[StorageReading] = []
        for name, tensor, is_cache in self._accounts.attributes.of(state):
            self._accounts.add_storages(tensor, caches if is_cache else storages, name)
        return ModuleReading(
            class_name=_class_name(type(module)),
            children=children,
            storages=tuple(storages),
            caches=tuple(caches),
            parameters=tuple(elements),
            has_identity=_has_identity(type(module)),
            attached_to=_attached_to(state),
            stamp=stamp,
            ref=ref,
        )

    def _where_it_is(self, state: dict[str, Any], name: str, tensor: Any) -> Any:
        """The tensor itself; for one on `meta` the copy that the host will bring back, if it keeps one."""
        if "_hf_hook" in state and tensor.is_meta:
            copy = offloaded_copy(state, name)
            return tensor if copy is None else copy
        return tensor

    def _stamp(self, state: dict[str, Any]) -> int:
        """A hash of all that a reading depends on: names and identities, devices, storages and their sizes.

        It is made at every look at every module: about 1 µs. A tensor that takes a freed one's place in every respect, with
        its storage's address and size on the same device, holds as many bytes in the same place; that its values came from
        another file is the provenance's to tell.
        """
        modules = state["_modules"]
        stamp: list[Any] = [*modules.keys(), *map(id, modules.values())] if modules else []
        plain_types = self._plain_types
        for tensors in (state["_parameters"], state["_buffers"]):
            for name, tensor in tensors.items():
                if type(tensor) in plain_types:
                    storage = tensor.untyped_storage()
                    stamp += (name, id(tensor), tensor.device, storage._cdata, storage.nbytes())
                elif tensor is not None:
                    stamp += (name, id(tensor), self._accounts.stamp(tensor))
        for name, tensor, _ in self._accounts.attributes.of(state):
            stamp += (name, id(tensor), self._accounts.stamp(tensor))
        return hash(tuple(stamp))


MODEL_CLASSES: Final = frozenset({"PreTrainedModel", "ModelMixin", "SentenceTransformer"})
"""The base classes by which libraries say: this is a model (transformers, diffusers, sentence-transformers)."""


def _class_name(kind: type) -> str:
    """What the host wrote: `fully_shard` gives each module a class of its own, `FSDPLinear` for a `Linear`."""
    bases = kind.__bases__
    return bases[1].__name__ if len(bases) == 2 and bases[0].__name__ == "FSDPModule" else kind.__name__


def _has_identity(kind: type) -> bool:
    return any(base.__name__ in MODEL_CLASSES for base in kind.__mro__)


def _attached_to(state: dict[str, Any]) -> int | None:
    replaced = state.get("org_forward")
    return id(replaced.__self__) if type(replaced) is MethodType else None
