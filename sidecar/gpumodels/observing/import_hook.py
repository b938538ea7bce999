"""When libraries arrive: the sidecar often starts first, and must neither import them itself nor miss the first load."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Final

from gpumodels.support.resident import resident

IMPORTING: Final = "_find_and_load_unlocked"
"""The function of importlib's that asks finders for the sake of an import; `importlib.util.find_spec` is a question only."""


def imported(name: str) -> ModuleType | None:
    """The module, if the host has imported it to the end."""
    module = sys.modules.get(name)
    return None if module is None or getattr(getattr(module, "__spec__", None), "_initializing", False) else module


def imported_torch() -> ModuleType | None:
    """torch, if the host has imported it to the end."""
    torch = imported("torch")
    if torch is None:
        return None
    return torch if hasattr(torch, "UntypedStorage") and "torch.nn.modules.module" in sys.modules else None


@resident
class ImportHook(MetaPathFinder):
    """Calls back in the importing thread, right after a module has run, before the host goes on. Finds nothing itself."""

    def __init__(self) -> None:
        self._awaited: dict[str, Callable[[ModuleType], None]] = {}
        self._asking: set[str] = set()

    def wait(self, names: Iterable[str], arrived: Callable[[ModuleType], None]) -> None:
        """Begin to listen for these modules too; what is there already is not told of."""
        self._awaited.update(dict.fromkeys(names, arrived))
        if self._awaited and self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def cancel(self) -> None:
        """Stop listening."""
        self._awaited.clear()
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The ordinary spec of an awaited module that is being imported, with a loader that tells us when it is done.

        None for anything else. The module itself gets the ordinary loader.
        """
        if fullname not in self._awaited or fullname in self._asking or not _is_an_import():
            return None
        self._asking.add(fullname)  # so that the ordinary finders answer
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._asking.discard(fullname)
        if spec is not None and spec.loader is not None and hasattr(spec.loader, "exec_module"):
            spec.loader = _TellingLoader(spec.loader, self._ran)
        return spec

    def _ran(self, module: ModuleType) -> None:
        arrived = self._awaited.pop(module.__name__, None)
        if not self._awaited:
            self.cancel()
        if arrived is not None:
            arrived(module)


@resident
class _TellingLoader(Loader):
    """Stands in for a module's own loader during one import."""

    def __init__(self, loader: Any, ran: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._ran = ran

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the module's own loader does."""
        created: ModuleType | None = self._loader.create_module(spec)
        return created

    def exec_module(self, module: ModuleType) -> None:
        """The same, and tell of it."""
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._ran(module)


def _is_an_import() -> bool:
    """Called by `find_spec`, which importlib's `_find_spec` calls for whoever wants to know."""
    asking = sys._getframe(2).f_back
    return asking is not None and asking.f_code.co_name == IMPORTING
