"""Starts the sidecar in forked children where a launcher started it in the parent, since nobody else would: daemons, workers.

A child has no thread and no file of ours until it imports torch or makes a module: what forks to load data does neither.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Final

from gpumodels.observing.import_hook import imported_torch
from gpumodels.observing.observers import Observers
from gpumodels.support.failures import Failures
from gpumodels.support.never_pickled import never_pickled

LAUNCHERS_FINDER: Final = "GpumodelsTorchFinder"
"""The class in `launching/hook/sitecustomize.py` that waits for torch to be imported."""


@never_pickled
class ForkedChildren:
    """Whether this process's children are served, and what waits in a child for the first sign of models."""

    def __init__(self, start: Callable[[], None]) -> None:
        self._start = start
        self.are_served = False
        self._observers: Observers | None = None
        self._failures = Failures()

    def wait(self) -> None:
        """Called in a child: start the sidecar when torch is imported, or, if it is already, when a module is made."""
        if not self.are_served:
            return
        with self._failures.guard("waiting for models in a forked child"):
            torch = imported_torch()
            if torch is not None:
                self._observers = Observers(torch, self._failures)
                self._observers.observe(torch.nn.Module.__init__, "starting in a forked child", started=self._module_made)
            elif "torch" not in sys.modules:
                for finder in sys.meta_path:
                    if type(finder).__name__ == LAUNCHERS_FINDER:
                        finder.waits = True  # type: ignore[attr-defined]

    def cancel(self) -> None:
        """Wait for nothing any more."""
        observers, self._observers = self._observers, None
        if observers is not None:
            observers.remove()

    def _module_made(self, _frame: FrameType) -> None:
        if self._observers is not None:
            self.cancel()
            self._start()
