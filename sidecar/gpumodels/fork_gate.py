"""Forks of the host happen while the sidecar's thread holds nothing: no lock, no file half made, nothing inside torch.

Only the forking thread lives on in a child. What another thread held at that moment is held in the child for ever.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final

from gpumodels.support.resident import resident

LONGEST_WAIT_SECONDS: Final = 0.05
"""A fork waits no longer: a disk may be slow, and the host comes first."""


@resident
class ForkGate:
    """Held by the sidecar's thread while it works, and by a thread of the host for the length of its fork."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._lock.release()

    @contextmanager
    def ajar(self) -> Iterator[None]:
        """While the sidecar's thread waits, in the middle of its work."""
        self._lock.release()
        try:
            yield
        finally:
            self._lock.acquire()

    def close_for_fork(self) -> bool:
        """Whether the gate could be had before the fork: if so, `open_after_fork` in the parent."""
        return self._lock.acquire(timeout=LONGEST_WAIT_SECONDS)

    def open_after_fork(self) -> None:
        """The fork is done."""
        self._lock.release()
