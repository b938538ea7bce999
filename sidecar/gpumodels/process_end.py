"""Notices the end of the process while Python still runs, so that viewers are told that it has exited and hasn't died."""

from __future__ import annotations

import atexit
import sys
from collections.abc import Callable
from typing import Any, Final

from gpumodels.support.never_pickled import never_pickled

AFTER_ALL_OTHERS: Final = -1_000_000
"""Of the finalizers of multiprocessing, those of the lowest priority are last."""


@never_pickled
class ProcessEnd:
    """Calls back when the process exits.

    Children that multiprocessing forked end by `os._exit`, which runs nothing of `atexit`, but its finalizers before.

    Args:
        stop: what to call.
        note_error: is given the error that ends such a child, before: nobody else is told of it.
    """

    def __init__(self, stop: Callable[[], None], note_error: Callable[[Any], None]) -> None:
        self._stop = stop
        self._note_error = note_error
        self._finalizer: Any = None

    def expect(self) -> None:
        """From now on, call back."""
        self.forget()
        atexit.register(self._stop)
        util, process = sys.modules.get("multiprocessing.util"), sys.modules.get("multiprocessing.process")
        if util is not None and process is not None and process.parent_process() is not None:
            self._finalizer = util.Finalize(None, self._child_ends, exitpriority=AFTER_ALL_OTHERS)

    def forget(self) -> None:
        """Call back no more."""
        atexit.unregister(self._stop)
        finalizer, self._finalizer = self._finalizer, None
        if finalizer is not None:
            finalizer.cancel()

    def _child_ends(self) -> None:
        self._note_error(sys.exc_info()[1])
        self._stop()
