"""Notices what runs modules without calling them: compiled code, TorchScript, and the replicas that `DataParallel` makes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import FrameType, FunctionType, MethodType, ModuleType
from typing import Any, Final

from gpumodels.observing.observers import Observers
from gpumodels.support.known_classes import all_subclasses
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.torch_private import COMPILING_MODULE, compiling_context, has_compiled, scripting

WRAPPERS: Final = "torch._dynamo.external_utils"
"""torch's own functions around the call of a module that is compiled."""
REPLICATE: Final = "_replicate_for_data_parallel"


@never_pickled
class HiddenCalls:
    """Whether there was any of that; once there was, it is never over, as nothing tells when the last one is gone.

    Args:
        torch: the host's torch.
    """

    def __init__(self, torch: ModuleType) -> None:
        self._torch = torch
        self._module_type = torch.nn.Module
        self._module_calls = {getattr(torch.nn.Module, name, None) for name in ("__call__", "_call_impl")}
        self.may_run_functions = False
        """Whether nothing that is seen tells when modules run.

        A function was compiled that is no module's call; or a script was made of a module, which runs outside Python with the
        same weights.
        """
        self.may_run_modules = False
        """Whether the call of one module may be the use of any other: what it calls in compiled code isn't seen."""

    def observe(self, observers: Observers) -> None:
        """Begin to observe the making of scripts, and of replicas, which are modules of their own."""
        replicate = vars(self._module_type).get(REPLICATE)
        if replicate is not None and not observers.observe(replicate, "noting a replica", started=self._replicated):
            self.may_run_modules = True
        if not observers.observe(scripting(self._torch), "noting a script", started=self._scripted):
            self.may_run_functions = True

    def awaited(self, observers: Observers) -> Mapping[str, Callable[[ModuleType], None]]:
        """torch's module that compiles, with the function to call once it is imported."""

        def compiler(module: ModuleType) -> None:
            context = compiling_context(module)
            is_observed = observers.observe(context, "noting what is compiled", started=self._compiled)
            if not is_observed or has_compiled():
                self.may_run_functions = self.may_run_modules = True

        return {COMPILING_MODULE: compiler}

    def types(self) -> set[type]:
        """The classes of scripts."""
        return all_subclasses(self._torch.jit.ScriptModule)

    def add_all(self, found: Iterable[Any]) -> None:
        """Add scripts that were made before."""
        if any(True for _ in found):
            self.may_run_functions = True

    def _scripted(self, _frame: FrameType) -> None:
        self.may_run_functions = True

    def _replicated(self, _frame: FrameType) -> None:
        self.may_run_modules = True

    def _compiled(self, frame: FrameType) -> None:
        self.may_run_modules = True
        if not self._is_module(frame.f_locals.get("fn")):
            self.may_run_functions = True

    def _is_module(self, compiled: object) -> bool:
        """Whether that is a module, or the call of one: what it runs is then seen as a call."""
        kind = type(compiled)
        if kind is MethodType:
            return compiled.__func__ in self._module_calls  # type: ignore[attr-defined]
        if kind is FunctionType:
            return bool(compiled.__globals__.get("__name__") == WRAPPERS)  # type: ignore[attr-defined]
        return self._module_type in type.__getattribute__(kind, "__mro__")
