"""Everything the sidecar installs in torch, and takes out again: registration hooks, wraps, and the sweep for what was there.

torch's private and global names stand here, in `reading` and in `provenance`, each with a way on where it is missing.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import compress
from types import ModuleType
from typing import Any, Protocol

from gpumodels.arrival import imported
from gpumodels.failures import LOGGER, Failures
from gpumodels.provenance import Provenance
from gpumodels.readers import Readers
from gpumodels.registry import Registry
from gpumodels.wraps import Wraps, all_subclasses


class Listener(Protocol):
    """What must know of objects that are no modules: pipelines, optimizers, caches, patches."""

    @property
    def arrivals(self) -> Mapping[str, Callable[[ModuleType], None]]:
        """Modules to be wrapped when they are there, each with what wraps it."""

    def types(self) -> set[type]:
        """Classes of what was there before: to be looked for once, and given to `add_all`."""

    def add_all(self, found: Iterable[Any], /) -> None:
        """What was there before."""

    def remove(self) -> None:
        """Leave the libraries as they were."""


class TorchHooks:
    """Feeds the registry and the provenance from inside torch."""

    def __init__(
        self,
        torch: ModuleType,
        registry: Registry,
        provenance: Provenance,
        listeners: Sequence[Listener],
        failures: Failures,
    ) -> None:
        self._registry = registry
        self._provenance = provenance
        self._listeners = listeners
        self._failures = failures
        self._wraps = Wraps()
        self._handles: list[Any] = []
        self._module_type = torch.nn.Module
        with failures.guard("installing registration hooks"):
            self._install_registration_hooks(torch)
        with failures.guard("wrapping UntypedStorage.from_file"):
            self._wraps.wrap(torch.UntypedStorage, "from_file", provenance.around_from_file)
        with failures.guard("wrapping Module.load_state_dict"):
            self._wraps.wrap(
                torch.nn.Module, "load_state_dict", lambda original: provenance.loads.around(original, registry.loaded)
            )
        with failures.guard("wrapping Module._apply"):
            self._wraps.wrap(torch.nn.Module, "_apply", lambda original: provenance.around_apply(original, registry.touch))
        with failures.guard("wrapping swap_tensors"):
            self._wraps.wrap(torch.utils, "swap_tensors", provenance.around_swap_tensors)
        with failures.guard("wrapping Module.__setstate__"):
            self._wraps.wrap(torch.nn.Module, "__setstate__", self._adding)
        with failures.guard("wrapping RecursiveScriptModule.__init__"):
            self._wraps.wrap(torch.jit.RecursiveScriptModule, "__init__", self._adding)

        self._readers = Readers(torch, provenance, failures)
        wrapping = dict(self._readers.arrivals)
        for listener in listeners:
            wrapping.update(listener.arrivals)
        for name, arrived in wrapping.items():
            if (module := imported(name)) is not None:
                arrived(module)
        self.awaited = {name: arrived for name, arrived in wrapping.items() if name not in sys.modules}
        """Modules that aren't imported yet, with what is to be called when they are."""

    def remove(self) -> None:
        """Leave torch and the readers as they were."""
        self._readers.remove()
        for listener in self._listeners:
            listener.remove()
        for handle in self._handles:
            with self._failures.guard("removing a registration hook"):
                handle.remove()
        self._handles.clear()
        with self._failures.guard("unwrapping"):
            self._wraps.unwrap_all()

    def sweep(self) -> None:
        """Find the modules that were there before the hooks: one pass over what the garbage collector tracks, by exact type.

        `isinstance` over all objects would run foreign `__class__` properties. About 25 ms per million objects, all of it in C.
        """
        tracked = gc.get_objects()
        modules: tuple[set[type], Callable[[Iterable[Any]], None]] = all_subclasses(self._module_type), self._registry.add_all
        for types, add_all in (modules, *((listener.types(), listener.add_all) for listener in self._listeners)):
            if types:
                add_all(list(compress(tracked, map(types.__contains__, map(type, tracked)))))

    def _install_registration_hooks(self, torch: ModuleType) -> None:
        registering = torch.nn.modules.module
        registry, provenance, failures = self._registry, self._provenance, self._failures
        known, origins = registry.known, provenance.by_storage

        # A model is built by thousands of these: whom we know already is seen without a call.

        def module_registered(parent: Any, _name: str, child: Any) -> None:
            try:
                if id(child) not in known and child is not None:
                    registry.add_new(child)
                if id(parent) not in known:
                    registry.add_new(parent)
                registry.version += 1
            except Exception as error:  # noqa: BLE001  # as in a guard, which would be two calls more
                failures.note("noting a registration", error)

        def tensor_registered(parent: Any, _name: str, tensor: Any) -> None:
            try:
                if origins and tensor is not None and not tensor.is_meta:
                    provenance.note_registered(tensor)
                if id(parent) not in known:
                    registry.add_new(parent)
                registry.version += 1
            except Exception as error:  # noqa: BLE001
                failures.note("noting a registration", error)

        if not hasattr(registering, "register_module_module_registration_hook"):
            LOGGER.warning("this torch has no global registration hooks; models are found by sweeps only")
            return
        self._handles.append(registering.register_module_module_registration_hook(module_registered))
        self._handles.append(registering.register_module_parameter_registration_hook(tensor_registered))
        self._handles.append(registering.register_module_buffer_registration_hook(tensor_registered))

    def _adding(self, original: Any) -> Any:
        """Copies, unpickled and scripted modules register nothing: what fills them is listened to."""
        registry = self._registry
        guard = self._failures.guard("noting a module")

        def fill(module: Any, *arguments: Any, **options: Any) -> None:
            original(module, *arguments, **options)
            with guard:
                registry.add(module)

        return fill
