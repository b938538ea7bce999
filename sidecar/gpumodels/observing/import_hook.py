"""Calls back when the host imports a library. The sidecar often starts first: it must not import it, nor miss its first use."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Final

from gpumodels.support.never_pickled import never_pickled

IMPORTING: Final = "_find_and_load_unlocked"
"""The importlib function that asks finders during an import; `importlib.util.find_spec` asks them without importing anything."""


def imported(name: str) -> ModuleType | None:
    """The module, if the host has finished importing it."""
    module = sys.modules.get(name)
    return None if module is None or getattr(getattr(module, "__spec__", None), "_initializing", False) else module


def imported_torch() -> ModuleType | None:
    """torch, if the host has finished importing it."""
    torch = imported("torch")
    if torch is None:
        return None
    return torch if hasattr(torch, "UntypedStorage") and "torch.nn.modules.module" in sys.modules else None


@never_pickled
class ImportHook(MetaPathFinder):
    """Calls back in the importing thread, right after a module was executed and before the host continues. Finds no modules."""

    def __init__(self) -> None:
        self._awaited: dict[str, Callable[[ModuleType], None]] = {}
        self._begun: frozenset[str] = frozenset()
        """Awaited modules whose import had begun before: comfy.utils imports torch, and is not finished when torch is."""
        self._asking: set[str] = set()

    def wait(self, names: Iterable[str], arrived: Callable[[ModuleType], None]) -> None:
        """Call `arrived` with each of these modules once it is imported; modules that are imported already aren't reported.

        Those whose import has begun are reported at the next import of anything, or by `check`.
        """
        self._awaited.update(dict.fromkeys(names, arrived))
        self._begun = frozenset(name for name in self._awaited if name in sys.modules)
        if self._awaited and self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def check(self) -> None:
        """Report the modules whose import had begun before `wait` and has ended since."""
        for name in self._begun:
            if (module := imported(name)) is not None:
                self._begun -= {name}
                self._executed(module, name)

    def cancel(self) -> None:
        """Stop waiting, and remove the hook from `sys.meta_path`."""
        self._awaited.clear()
        self._begun = frozenset()
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The ordinary spec of an awaited module that is being imported, with a loader that reports its execution; else None.

        The module itself gets the ordinary loader.
        """
        if self._begun:
            self.check()
        if fullname not in self._awaited or fullname in self._asking or not _is_an_import():
            return None
        return self.reporting_spec(fullname)

    def reporting_spec(self, fullname: str) -> ModuleSpec | None:
        """The same for a module that is being imported for certain."""
        if fullname not in self._awaited or fullname in self._asking:
            return None
        self._asking.add(fullname)  # so that the ordinary finders answer
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._asking.discard(fullname)
        if spec is not None and spec.loader is not None and hasattr(spec.loader, "exec_module"):
            spec.loader = _ReportingLoader(spec.loader, self._executed)
        return spec

    def _executed(self, module: ModuleType, name: str | None = None) -> None:
        arrived = self._awaited.pop(name or module.__name__, None)
        if not self._awaited:
            self.cancel()
        if arrived is not None:
            arrived(module)


@never_pickled
class _ReportingLoader(Loader):
    """Replaces a module's own loader during a single import."""

    def __init__(self, loader: Any, executed: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._executed = executed

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """What the module's own loader creates."""
        created: ModuleType | None = self._loader.create_module(spec)
        return created

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module by its own loader, then report it."""
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._executed(module)


def spec_of_awaited(fullname: str) -> ModuleSpec | None:
    """The spec of a module that is being imported, if a hook that came into `sys.meta_path` during this very import awaits it."""
    for finder in tuple(sys.meta_path):
        if isinstance(finder, ImportHook) and (spec := finder.reporting_spec(fullname)) is not None:
            return spec
    return None


def _is_an_import() -> bool:
    """Whether `find_spec`, our caller, was called for an import: by importlib's `_find_spec`, itself called by IMPORTING."""
    requester = sys._getframe(2).f_back
    return requester is not None and requester.f_code.co_name == IMPORTING
