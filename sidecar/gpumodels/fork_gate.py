"""Delays the host's forks until the sidecar's thread holds nothing: no lock, no half-made file, nothing inside torch.

Only the forking thread lives on in a child. What another thread held at that moment stays held in the child for ever.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final

from gpumodels.support.never_pickled import never_pickled

LONGEST_WAIT_SECONDS: Final = 0.05
"""A fork waits no longer than this: a disk may be slow, and the host comes first."""


@never_pickled
class ForkGate:
    """Held by the sidecar's thread while it works, and by a thread of the host for the length of its fork."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._lock.release()

    @contextmanager
    def released(self) -> Iterator[None]:
        """Release the gate for as long as the sidecar's thread waits in the middle of its work."""
        self._lock.release()
        try:
            yield
        finally:
            self._lock.acquire()

    def close_for_fork(self) -> bool:
        """Acquire the gate before a fork. Returns whether that succeeded; if so, the parent must call `open_after_fork`."""
        return self._lock.acquire(timeout=LONGEST_WAIT_SECONDS)

    def open_after_fork(self) -> None:
        """Release the gate in the parent, once the fork is done."""
        self._lock.release()
