"""Keeps the ring beside another service, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from gpumodels_tui.recording.ring import EVERY_SECONDS, TREE_BYTES, RingWriter
from gpumodels_tui.recording.sampling import Moments
from gpumodels_tui.watching import WatchingThread


class RingKeeper:
    """Takes a moment every so often, from `start` to `stop`."""

    def __init__(self, thread: WatchingThread, directory: Path, warn: Callable[[str], None]) -> None:
        """Args:
        thread: Its owner starts and stops it, and tells its views to `moments.see`.
        directory: Where the ring is.
        warn: Called with a line when keeping it fails, once until it works again.
        """
        self.moments = Moments(thread, TREE_BYTES)
        self._directory = directory
        self._warn = warn
        self._ring = RingWriter(directory)
        self._stopping = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="gpumodels-history", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._keeper.start()

    def stop(self) -> None:
        """End, with what happened until now."""
        self._stopping.set()
        if self._keeper.is_alive():
            self._keeper.join()

    def _keep(self) -> None:
        warned = None
        while not self._stopping.wait(EVERY_SECONDS):
            self._take()
            if self._ring.problem is not None and warned is None:
                self._warn(f"no history is kept in {self._directory}: {self._ring.problem}")
            warned = self._ring.problem
        self._take()
        self._ring.close()

    def _take(self) -> None:
        if (moment := self.moments.take()) is not None:
            self._ring.write(moment)
