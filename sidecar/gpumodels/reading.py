"""One module's own state as plain data: its children and the storages of its tensors. No strong reference leaves this room."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

from gpumodels.accounting import StorageReading, TensorAccounts
from gpumodels.failures import Failures
from gpumodels.provenance import Provenance


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
    """Equal stamps, nothing changed: see `ModuleReader.stamp`."""


class ModuleReader:
    """Reads modules without running their code: instance dictionaries only, no attribute look-ups on modules."""

    def __init__(self, torch: ModuleType, provenance: Provenance, failures: Failures) -> None:
        self._accounts = TensorAccounts(torch, provenance, failures)
        self._plain_types = frozenset({torch.Tensor, torch.nn.Parameter})

    def read(self, ref: weakref.ref[Any], add: Callable[[Any], None], known: ModuleReading | None) -> ModuleReading | None:
        """The module's state, the `known` one where nothing changed; None if it died or is not initialised yet.

        Args:
            ref: the module.
            add: given each child: a module that registered with no hook is known from then on.
            known: what was read before.
        """
        module = ref()
        if module is None:
            return None
        state = module.__dict__
        try:
            modules, parameters, buffers = state["_modules"], state["_parameters"], state["_buffers"]
        except KeyError:
            return None  # its __init__ hasn't run yet
        stamp = self._stamp(modules, parameters, buffers)
        if known is not None and known.stamp == stamp:
            return known
        children = [(name, child) for name, child in list(modules.items()) if child is not None]
        for _, child in children:
            add(child)
        names: list[str] = []
        storages: list[StorageReading] = []
        for name, tensor in _tensors(parameters, buffers):
            names.append(name)
            self._accounts.add_storages(tensor, storages)
        return ModuleReading(
            type(module).__name__,
            tuple((name, id(child)) for name, child in children),
            tuple(storages),
            tuple((id(tensor), self._accounts.elements(tensor)) for _, tensor in _tensors(parameters)),
            tuple(names),
            stamp,
        )

    def _stamp(self, modules: dict[str, Any], parameters: dict[str, Any], buffers: dict[str, Any]) -> list[Any]:
        """Everything that a reading depends on, in the cheapest form: names and identities, storages and their sizes.

        It is made at every look at every module: about 1 µs.
        """
        stamp: list[Any] = [*modules, *map(id, modules.values())]
        plain_types = self._plain_types
        for tensors in (parameters, buffers):
            for name, tensor in tensors.items():
                if type(tensor) in plain_types:
                    storage = tensor.untyped_storage()
                    stamp += (name, id(tensor), storage._cdata, storage.nbytes())
                elif tensor is not None:
                    stamp += (name, id(tensor), self._accounts.stamp(tensor))
        return stamp


def _tensors(*groups: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for group in groups:
        for name, tensor in list(group.items()):
            if tensor is not None:
                yield name, tensor
