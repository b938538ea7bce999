"""When torch arrives: the sidecar often starts before the host imports it, and must neither import it nor miss the first load."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def imported_torch() -> ModuleType | None:
    """torch, if the host has imported it to the end."""
    torch = sys.modules.get("torch")
    if torch is None or getattr(getattr(torch, "__spec__", None), "_initializing", False):
        return None
    return torch if hasattr(torch, "UntypedStorage") and "torch.nn.modules.module" in sys.modules else None


class TorchArrival(MetaPathFinder):
    """Calls back in the importing thread, right after `import torch` has run, before the host goes on. Finds nothing itself."""

    def __init__(self, arrived: Callable[[ModuleType], None]) -> None:
        self._arrived = arrived

    def wait(self) -> None:
        """Begin to listen."""
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def cancel(self) -> None:
        """Stop listening."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The ordinary spec of torch, whose loader tells us when it is done; None for anything else."""
        if fullname != "torch":
            return None
        self.cancel()  # so that the ordinary finders answer, and once is enough
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            self.wait()
            return spec
        loader: Any = spec.loader
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            self._arrived(module)

        loader.exec_module = exec_module
        return spec
