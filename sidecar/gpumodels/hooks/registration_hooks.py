"""torch's own hooks for what is registered with a module: how modules are known where their construction can't be observed.

That is where other tools have all of `sys.monitoring`, or where torch's sources are missing. Buffers have no hook here: where a
compiled forward assigns one, the hook would be in the guards, and its removal would make the host compile anew.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from gpumodels.observing.module_registry import ModuleRegistry
from gpumodels.support.failures import Failures
from gpumodels.support.resident import resident
from gpumodels.support.torch_private import is_compiling, keep_from_compiler


@resident
class RegistrationHooks:
    """Two global hooks, of modules and of parameters."""

    def __init__(self, torch: ModuleType, registry: ModuleRegistry, failures: Failures) -> None:
        self._torch = torch
        self._registry = registry
        self._failures = failures
        self._handles: list[Any] = []

    def install(self) -> None:
        """From now on."""
        registering = self._torch.nn.modules.module
        registry, failures, known = self._registry, self._failures, self._registry.known
        compiling = is_compiling(self._torch)

        # What a compiler runs is what it traces: the first statement is folded away by it, and the rest with it.

        def module_registered(parent: Any, _name: str, child: Any) -> None:
            if compiling():
                return
            try:
                if id(child) not in known and child is not None:
                    registry.add_new(child)
                if id(parent) not in known:
                    registry.add_new(parent)
                registry.touch_known(id(parent))
            except Exception as error:  # noqa: BLE001  # as in a guard, which would be two calls more
                failures.note("noting a registration", error)

        def parameter_registered(parent: Any, _name: str, _parameter: Any) -> None:
            if compiling():
                return
            try:
                if id(parent) not in known:
                    registry.add_new(parent)
                registry.touch_known(id(parent))
            except Exception as error:  # noqa: BLE001
                failures.note("noting a registration", error)

        keep_from_compiler(self._torch, (module_registered.__code__, parameter_registered.__code__))
        self._handles.append(registering.register_module_module_registration_hook(module_registered))
        self._handles.append(registering.register_module_parameter_registration_hook(parameter_registered))

    def remove(self) -> None:
        """Leave torch as it was."""
        while self._handles:
            with self._failures.guard("removing a registration hook"):
                self._handles.pop().remove()
