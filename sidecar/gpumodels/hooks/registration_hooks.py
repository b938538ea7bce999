"""Learns of modules through torch's global registration hooks, where construction can't be observed.

That is so if other tools use all ids of `sys.monitoring`, or if torch's sources are missing. No hook is set for buffers: if a
compiled forward assigns one, the hook would become part of the guards, and removing it would make the host recompile.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from gpumodels.observing.module_registry import ModuleRegistry
from gpumodels.support.failures import Failures
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.torch_private import is_compiling, keep_from_compiler


@never_pickled
class RegistrationHooks:
    """Two global hooks, for registered modules and for registered parameters."""

    def __init__(self, torch: ModuleType, registry: ModuleRegistry, failures: Failures) -> None:
        self._torch = torch
        self._registry = registry
        self._failures = failures
        self._handles: list[Any] = []

    def install(self) -> None:
        """Register the hooks with torch."""
        registering = self._torch.nn.modules.module
        registry, failures, known = self._registry, self._failures, self._registry.known
        compiling = is_compiling(self._torch)

        # Dynamo traces these hooks where it traces a registration: it folds the first statement away, and the rest with it.

        def module_registered(parent: Any, _name: str, child: Any) -> None:
            if compiling():
                return
            try:
                if id(child) not in known and child is not None:
                    registry.add_new(child)
                if id(parent) not in known:
                    registry.add_new(parent)
                registry.note_change(id(parent))
            except Exception as error:  # noqa: BLE001  # as `guard` does, without its two extra calls
                failures.note("noting a registration", error)

        def parameter_registered(parent: Any, _name: str, _parameter: Any) -> None:
            if compiling():
                return
            try:
                if id(parent) not in known:
                    registry.add_new(parent)
                registry.note_change(id(parent))
            except Exception as error:  # noqa: BLE001
                failures.note("noting a registration", error)

        keep_from_compiler(self._torch, (module_registered.__code__, parameter_registered.__code__))
        self._handles.append(registering.register_module_module_registration_hook(module_registered))
        self._handles.append(registering.register_module_parameter_registration_hook(parameter_registered))

    def remove(self) -> None:
        """Remove the hooks from torch."""
        while self._handles:
            with self._failures.guard("removing a registration hook"):
                self._handles.pop().remove()
