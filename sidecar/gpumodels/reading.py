"""One module's own state as plain data: its children and the storages of its tensors. No strong reference leaves this room."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

from gpumodels.accounting import StorageReading, TensorAccounts
from gpumodels.failures import Failures
from gpumodels.provenance import Provenance
from gpumodels.weak_table import KeyedRef


class ModuleReading(NamedTuple):
    """What one module itself holds."""

    class_name: str
    children: tuple[tuple[str, int], ...]
    """Names and ids of the modules below."""
    storages: tuple[StorageReading, ...]
    parameters: tuple[tuple[int, int], ...]
    """Its own parameters: identity and elements."""
    tensor_names: tuple[str, ...]
    stamp: list[Any]
    """Equal stamps, nothing changed: see `ModuleReader._stamp`."""
    refs: tuple[weakref.ref[Any], ...]
    """To the module and its tensors: while they are kept, no new object's weak reference has their identity."""


class ModuleReader:
    """Reads modules without running their code: instance dictionaries only, no attribute look-ups on modules."""

    def __init__(self, torch: ModuleType, provenance: Provenance, failures: Failures) -> None:
        self._accounts = TensorAccounts(torch, provenance, failures)
        self._plain_types = frozenset({torch.Tensor, torch.nn.Parameter})

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
            if reading is not None and reading.refs[0] is ref and reading.stamp == self._stamp(module.__dict__):
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
        # First what the stamp names by identity, then the stamp, then the rest: what the host changes meanwhile is read
        # again at the next look, as the stamp is older.
        refs = [ref, *[weakref.ref(tensor) for group in (parameters, buffers) for tensor in group.values() if tensor is not None]]
        stamp = self._stamp(state)
        children: tuple[tuple[str, int], ...] = ()
        if modules:
            held = [(name, child) for name, child in modules.items() if child is not None]
            children = tuple([(name, id(child)) for name, child in held])
            for _, child in held:
                add(child)
        names: list[str] = []
        storages: list[StorageReading] = []
        elements: list[tuple[int, int]] = []
        for name, tensor in [*parameters.items()]:
            if tensor is not None:
                names.append(name)
                elements.append((id(tensor), self._accounts.elements(tensor)))
                self._accounts.add_storages(tensor, storages)
        for name, tensor in [*buffers.items()] if buffers else ():
            if tensor is not None:
                names.append(name)
                self._accounts.add_storages(tensor, storages)
        class_name = type(module).__name__
        return ModuleReading(class_name, children, tuple(storages), tuple(elements), tuple(names), stamp, tuple(refs))

    def _stamp(self, state: dict[str, Any]) -> list[Any]:
        """Everything that a reading depends on, in the cheapest form: names and identities, devices, storages and their sizes.

        It is made at every look at every module: about 1 µs. A tensor is known by its weak reference, of which there is one
        as long as somebody keeps it: the tensor's own address may be another's by now.
        """
        modules = state["_modules"]
        stamp: list[Any] = [*modules, *map(id, modules.values())] if modules else []
        plain_types, ref = self._plain_types, weakref.ref
        for tensors in (state["_parameters"], state["_buffers"]):
            for name, tensor in tensors.items():
                if type(tensor) in plain_types:
                    storage = tensor.untyped_storage()
                    stamp += (name, id(ref(tensor)), tensor.device, storage._cdata, storage.nbytes())
                elif tensor is not None:
                    stamp += (name, id(ref(tensor)), self._accounts.stamp(tensor))
        return stamp
