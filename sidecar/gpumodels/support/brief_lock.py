"""A lock for a few dictionary operations in the host's threads, by which nobody can be kept waiting for good."""

from __future__ import annotations

import threading
from contextlib import suppress
from types import TracebackType
from typing import Final

from gpumodels.support.resident import resident

LONGEST_WAIT_SECONDS: Final = 0.05


@resident
class BriefLock:
    """Reentrant, as a signal handler of the host's may come in between. Whoever waits longer than a blink goes on without it.

    It is held for microseconds. That it takes longer means that its holder is gone: C code forked while another thread held it.
    What is guarded by it may be lost then, and no more.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> bool:
        return self._lock.acquire(timeout=LONGEST_WAIT_SECONDS)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        with suppress(RuntimeError):  # it wasn't had
            self._lock.release()
