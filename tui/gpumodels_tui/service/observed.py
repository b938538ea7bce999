"""The newest state of all sources, and how many models came and went since the service began. Safe from any thread."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping

from gpumodels_shared.records import Record
from gpumodels_tui.oneshot import Snapshots, glance
from gpumodels_tui.sources.opening import Sources
from gpumodels_tui.view.builder import build_view
from gpumodels_tui.view.events import EventKind
from gpumodels_tui.view.filtering import filtered
from gpumodels_tui.view.filters import NO_FILTERS, Filters
from gpumodels_tui.view.recorder import events_between
from gpumodels_tui.view.rows import View
from gpumodels_tui.watching import WatchingThread


class Observed(Record):
    """Everything at one moment."""

    snapshots: Snapshots
    view: View
    loads: Mapping[str, int] | None = None
    """How many models were loaded since the service began, by kind; those before don't count. None if nobody counts."""
    unloads: Mapping[str, int] | None = None


def observed_once(sources: Sources) -> Observed:
    """Everything, read once."""
    seen = glance(sources)
    return Observed(seen, build_view(seen.feed, seen.hardware, seen.catalogue))


class Observer:
    """Keeps the newest view of a `WatchingThread`, which its owner starts and stops."""

    def __init__(self, thread: WatchingThread, filters: Filters = NO_FILTERS, *others: Callable[[View], None]) -> None:
        """Args:
        thread: Reads the sources.
        filters: Which models count as loaded and unloaded; the view is of all.
        others: Called with each view, too.
        """
        self._others = others
        self._thread = thread
        self._filters = filters
        self._lock = threading.Lock()
        self._view: View | None = None
        self._loads: Counter[str] = Counter()
        self._unloads: Counter[str] = Counter()
        self.failure: Exception | None = None
        """What ended the thread; from then on nothing is known any more."""
        self.ended = threading.Event()
        thread.tell(self._on_view, self._on_failure)

    def observed(self) -> Observed | None:
        """The newest state; None until all sources were read once, and after a failure."""
        seen = self._thread.seen
        with self._lock:
            if self._view is None or seen is None or self.failure is not None or not self._thread.has_read_devices:
                return None
            return Observed(Snapshots(*seen, time.time_ns()), self._view, dict(self._loads), dict(self._unloads))

    def _on_view(self, view: View) -> None:
        for other in self._others:
            other(view)
        with self._lock:
            if self._view is not None:
                both = (filtered(one, self._filters) for one in (self._view, view))
                kinds = {row.key: row.kind for one in both for device in one.devices for row in device.models}
                for event in events_between(self._view, view, time.time_ns()):
                    if (kind := kinds.get(event.model_key or "")) is None:
                        continue
                    if event.kind is EventKind.LOADED:
                        self._loads[kind] += 1
                    elif event.kind is EventKind.UNLOADED:
                        self._unloads[kind] += 1
            self._view = view

    def _on_failure(self, error: Exception) -> None:
        self.failure = error
        self.ended.set()
