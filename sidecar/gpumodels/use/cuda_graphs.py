"""Tells whether there are CUDA graphs, which run modules without calling them and allocate nothing. Observes nothing for it."""

from __future__ import annotations

import gc
import sys
import sysconfig
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any, Final

from gpumodels.observing.observers import Observers
from gpumodels.support.known_classes import all_subclasses
from gpumodels.support.never_pickled import never_pickled

COUNTS_REFERENCES: Final = sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")
"""Without the interpreter's lock, the references to a class are counted by thread, and nowhere in full."""

FROZEN_AT_START: Final = 10_000
"""The interpreter freezes some hundreds of objects itself; a host that does so freezes torch's, too, which are far more."""


@never_pickled
class CudaGraphs:
    """Each graph holds a reference to its class, so that none was made for as long as there are no more than at first.

    Whoever else comes to hold the class, as a module that imports it by name, looks like a graph: that is unknown then.

    Args:
        torch: the host's torch.
    """

    def __init__(self, torch: ModuleType) -> None:
        graph = getattr(torch.cuda, "CUDAGraph", None)
        is_known = isinstance(graph, type) and COUNTS_REFERENCES
        self._kinds: tuple[type, ...] = (graph, graph.__base__) if is_known else ()  # type: ignore[union-attr,assignment]
        self._fewest = self._references()
        self._is_swept = not _is_initialized(torch)
        self.may_exist = not (is_known and self._is_swept)
        """Whether there may be one. Where the device was in use before the sidecar came, the sweep at its start tells."""

    def observe(self, observers: Observers) -> None:
        """Observe nothing."""

    def awaited(self, observers: Observers) -> Mapping[str, Callable[[ModuleType], None]]:
        """Nothing: the class is there."""
        return {}

    def types(self) -> set[type]:
        """The classes of graphs, if any may have been made before. Those that exist are to be given to `add_all`."""
        return all_subclasses(self._kinds[0]) if self._kinds and not self._is_swept else set()

    def add_all(self, found: Iterable[Any]) -> None:
        """Take the graphs that the sweep found. What was frozen was left out of it."""
        if not self._is_swept:
            self._is_swept = True
            self.may_exist = gc.get_freeze_count() > FROZEN_AT_START or any(True for _ in found)

    def update(self) -> None:
        """Count again. For the sidecar's thread, once a tick."""
        if not self.may_exist:
            references = self._references()
            self.may_exist = references > self._fewest
            self._fewest = min(self._fewest, references)

    def _references(self) -> int:
        return sum(map(sys.getrefcount, self._kinds))


def _is_initialized(torch: ModuleType) -> bool:
    """Whether the host has initialised CUDA, as it must to make a graph; True where torch doesn't say."""
    try:
        return bool(torch.cuda.is_initialized())
    except Exception:  # noqa: BLE001  # this torch tells it otherwise: that is unknown
        return True
