"""Takes the moments of a recording from the watching thread: states every so often, events as they happen."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from msgspec import Struct

from gpumodels_tui.recording.merge_patch import Document
from gpumodels_tui.recording.state_document import StateDocuments
from gpumodels_tui.view.changes import Changes
from gpumodels_tui.view.events import Event
from gpumodels_tui.view.rows import View
from gpumodels_tui.watching import WatchingThread


class Moment(Struct, frozen=True):
    """What a line of a recording is made of."""

    at_ns: int
    document: Document
    events: tuple[Event, ...]
    used: Mapping[str, int]


class Moments:
    """Listens to a thread's views. One object for each recording, since each has events of its own."""

    def __init__(self, thread: WatchingThread, tree_bytes: int) -> None:
        """Args:
        thread: Its owner starts and stops it, and tells its views to `see`.
        tree_bytes: How many bytes of layer trees a moment may have.
        """
        self._thread = thread
        self._documents = StateDocuments(tree_bytes)
        self._changes = Changes()
        self._lock = threading.Lock()
        self._events: list[Event] = []
        self._used: dict[str, int] = {}
        self._used_now: dict[str, int] = {}
        self._has_begun = False

    def see(self, view: View) -> None:
        """Note what is new in this view."""
        if not self._thread.has_read_devices:
            return
        with self._lock:
            self._events += self._changes.see(view, time.time_ns())
            if not self._has_begun:
                self._has_begun = True
                self._events += self._changes.earlier(0)
            self._used_now = {device.key: device.used_bytes for device in view.devices if device.used_bytes is not None}
            self._used = {key: max(used, self._used.get(key, 0)) for key, used in self._used_now.items()}

    def take(self) -> Moment | None:
        """The newest moment; None until all sources were read once."""
        seen = self._thread.seen
        with self._lock:
            if seen is None or not self._has_begun:
                return None
            events, self._events = tuple(self._events), []
            used, self._used = self._used, dict(self._used_now)
        document = self._documents.document(*seen, time.monotonic())
        return Moment(time.time_ns(), document, events, used)
