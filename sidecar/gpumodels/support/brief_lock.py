"""A lock for a few dictionary operations in the host's threads; nobody ever waits for it longer than 50 ms."""

from __future__ import annotations

import threading
from contextlib import suppress
from types import TracebackType
from typing import Final

from gpumodels.support.never_pickled import never_pickled

LONGEST_WAIT_SECONDS: Final = 0.05


@never_pickled
class BriefLock:
    """A reentrant lock (a signal handler of the host may interrupt its holder) that is given up on after `LONGEST_WAIT_SECONDS`.

    It is held for microseconds. A longer wait means that its holder no longer exists: C code forked while another thread held it.
    The caller then goes on without the lock, at the risk of losing an update and nothing else.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> bool:
        return self._lock.acquire(timeout=LONGEST_WAIT_SECONDS)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        with suppress(RuntimeError):  # it wasn't acquired
            self._lock.release()
