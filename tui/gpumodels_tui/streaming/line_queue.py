"""Lines on their way to a reader that may be slow: a bounded queue, written by a thread of its own.

Whoever puts lines never waits. When the queue is full, the oldest lines are dropped, and the next line that is written says so.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from gpumodels_shared.records import Record

MOST_LINES: Final = 10_000
MOST_BYTES: Final = 8 * 1024**2
"""Of the lines that wait; a single longer one may wait alone."""


class _Line(Record, frozen=False):
    number: int
    text: bytes


class LineQueue:
    """Writes lines in order to a descriptor, without changing its modes: others may share it."""

    def __init__(self, descriptor: int, lag: Callable[[int, int], bytes]) -> None:
        """Args:
        descriptor: Where to write.
        lag: The line that says how many lines were dropped, and the number of the last of them.
        """
        self._descriptor = descriptor
        self._lag = lag
        self._lines: deque[_Line] = deque()
        self._bytes = 0
        self._dropped = 0
        self._last_dropped = 0
        self._is_closing = False
        self._changed = threading.Condition()
        self.failure: OSError | None = None
        """Why nothing can be written any more."""
        self.ended = threading.Event()
        """Set once nothing will be written any more."""
        self._thread = threading.Thread(target=self._write_all, name="gpumodels-lines", daemon=True)
        self._thread.start()

    def put(self, number: int, text: bytes) -> None:
        """Add a line, which ends in a newline. Never waits."""
        with self._changed:
            self._lines.append(_Line(number, text))
            self._bytes += len(text)
            while len(self._lines) > 1 and (len(self._lines) > MOST_LINES or self._bytes > MOST_BYTES):
                oldest = self._lines.popleft()
                self._bytes -= len(oldest.text)
                self._dropped += 1
                self._last_dropped = oldest.number
            self._changed.notify()

    def close(self, patience_seconds: float) -> None:
        """Write what waits, for as long as this at most."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join(patience_seconds)

    def has_no_reader(self) -> bool:
        """Whether whoever read the pipe or socket is gone, which a write would tell, too, but only the next one."""
        poller = select.poll()
        with contextlib.suppress(OSError, ValueError):
            poller.register(self._descriptor, 0)
            return any(happened & (select.POLLERR | select.POLLHUP) for _, happened in poller.poll(0))
        return False

    def _write_all(self) -> None:
        try:
            while (text := self._next()) is not None:
                left = memoryview(text)
                while left:
                    left = left[self._write(left) :]
        except OSError as error:
            self.failure = error
        finally:
            self.ended.set()

    def _write(self, text: memoryview) -> int:
        try:
            return os.write(self._descriptor, text)
        except BlockingIOError:  # whoever shares the descriptor chose that
            select.select([], [self._descriptor], [])
            return 0

    def _next(self) -> bytes | None:
        """The next line, or what to say of those that were dropped before it; None at the end."""
        with self._changed:
            while not self._lines and not self._is_closing:
                self._changed.wait()
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                return self._lag(dropped, self._last_dropped)
            if not self._lines:
                return None
            line = self._lines.popleft()
            self._bytes -= len(line.text)
            return line.text
