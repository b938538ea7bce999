"""When libraries arrive: the sidecar often starts first, and must neither import them itself nor miss the first load."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


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


class Arrivals(MetaPathFinder):
    """Calls back in the importing thread, right after a module has run, before the host goes on. Finds nothing itself."""

    def __init__(self) -> None:
        self._awaited: dict[str, Callable[[ModuleType], None]] = {}
        self._asking: set[str] = set()

    def wait(self, arrived: Mapping[str, Callable[[ModuleType], None]]) -> None:
        """Begin to listen for these modules too; what is there already is not told of."""
        self._awaited.update(arrived)
        if self._awaited and self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def cancel(self) -> None:
        """Stop listening."""
        self._awaited.clear()
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The ordinary spec of an awaited module, whose loader tells us when it is done; None for anything else."""
        if fullname not in self._awaited or fullname in self._asking:
            return None
        self._asking.add(fullname)  # so that the ordinary finders answer
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._asking.discard(fullname)
        if spec is None or spec.loader is None:
            return spec
        loader: Any = spec.loader
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            arrived = self._awaited.pop(fullname, None)
            if not self._awaited:
                self.cancel()
            if arrived is not None:
                arrived(module)

        loader.exec_module = exec_module
        return spec
