"""The thread behind the screens: polls all sources, and publishes a new view whenever something has changed."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from gpumodels_shared.records import replace
from gpumodels_tui.catalogue.facts import CatalogueState
from gpumodels_tui.sources.feed import FeedState
from gpumodels_tui.sources.gpus import HardwareState, host_memory_only
from gpumodels_tui.sources.opening import Sources
from gpumodels_tui.sources.unattached import Unattached
from gpumodels_tui.view.builder import ViewBuilder
from gpumodels_tui.view.events import History
from gpumodels_tui.view.recorder import Recorder
from gpumodels_tui.view.rows import View

if TYPE_CHECKING:
    from gpumodels_tui.catalogue.watch import Catalogue
    from gpumodels_tui.comparing.documents import Document
    from gpumodels_tui.following import Following
    from gpumodels_tui.moments import Moments

INTERVAL_SECONDS: Final = 1.0
"""How often the devices are polled."""
FEED_SHARE: Final = 0.25
"""The sidecars' files are polled at this share of the interval, which limits how late a loaded model appears."""
QUIET_SHARE: Final = 0.5
"""The same once they have said nothing new for `QUIET_SECONDS`: where one model is loaded, others follow."""
QUIET_SECONDS: Final = 10.0
PATIENCE_SECONDS: Final = 0.5
"""How long reading model files is delayed for the first drawing."""
STOP_SECONDS: Final = 2.0
LONGEST_WAIT_SECONDS: Final = 1.0
"""How long it may take until a shorter interval takes effect."""
NO_HISTORY: Final = History()


class Watched(Protocol):
    """What the screens are told by: `WatchingThread`, or what stands in for it."""

    interval_seconds: float

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """End; may be called repeatedly."""

    def first(self, patience_seconds: float) -> View | None:
        """The first view; None if there is none in time."""

    def tell(self, on_view: Callable[[View], None], on_failure: Callable[[Exception], None]) -> None:
        """Set the listener."""

    def around(self, at_ns: int) -> tuple[Document, Document]:
        """What was there before this moment, realtime nanoseconds, and what is there at the one that is shown.

        Raises:
            UnknownMomentError: one of the two isn't known.
        """


class WatchingThread(threading.Thread):
    """Polls the sources. It can start before it has a listener, which then receives the newest view."""

    def __init__(self, sources: Sources, interval_seconds: float = INTERVAL_SECONDS) -> None:
        """Args:
        sources: The sources to poll; this thread opens and closes them.
        interval_seconds: The time between two polls of the devices.
        """
        super().__init__(name="gpumodels-watching", daemon=True)
        self._sources = sources
        self._listener: tuple[Callable[[View], None], Callable[[Exception], None]] | None = None
        self._listener_lock = threading.Lock()
        self._newest: View | None = None
        self._failure: Exception | None = None
        self._has_news = threading.Event()
        self._has_listener = threading.Event()
        self._stopping = threading.Event()
        self._pause = threading.Lock()
        """Held while the thread runs, so that waiting for it is waiting; an event's `wait` takes three times as long."""
        self._pause.acquire()
        self.interval_seconds = interval_seconds
        """The time between two polls of the devices; may be changed at any time."""
        self.seen: tuple[FeedState, HardwareState, CatalogueState] | None = None
        """What the newest view was built from."""
        self._moments: Moments | None = None
        self.has_read_devices = False
        """Whether the driver was asked at least once; the first view doesn't wait for it."""

    def run(self) -> None:
        """Poll until `stop` is called."""
        try:
            self._watch()
        except Exception as error:  # noqa: BLE001  # the screen must report any error rather than silently stop updating
            with self._listener_lock:
                self._failure = error
                if self._listener is not None:
                    self._listener[1](error)
            self._has_news.set()

    def first(self, patience_seconds: float) -> View | None:
        """Wait for the first view and return the newest one; None if there is none in time."""
        self._has_news.wait(patience_seconds)
        return self._newest

    def tell(self, on_view: Callable[[View], None], on_failure: Callable[[Exception], None]) -> None:
        """Set the listener, and call it immediately with the newest view or failure, if there is one.

        Both functions are called in this thread or in the caller's; they must be quick and thread-safe.

        Args:
            on_view: Called with each new view.
            on_failure: Called with the error that ended the thread.
        """
        with self._listener_lock:
            self._listener = on_view, on_failure
            self._has_listener.set()
            if self._newest is not None:
                on_view(self._newest)
            if self._failure is not None:
                on_failure(self._failure)

    def around(self, at_ns: int) -> tuple[Document, Document]:
        """What was there before this moment, as far as it was seen, and what is there now.

        Raises:
            UnknownMomentError: nothing was seen yet.
        """
        from gpumodels_tui.moments import UnknownMomentError, document_of

        if self._moments is None or self.seen is None:
            raise UnknownMomentError("nothing was seen yet")
        feed, hardware, _ = self.seen
        return self._moments.before(at_ns), document_of(feed, hardware, time.time_ns(), os.uname().nodename)

    def stop(self) -> None:
        """End the thread, which closes files, driver and watches. May be called repeatedly, even before `start`."""
        if not self._stopping.is_set():
            self._stopping.set()
            self._pause.release()
        self._has_listener.set()
        if self.is_alive():
            self.join(STOP_SECONDS)

    def _watch(self) -> None:
        with contextlib.ExitStack() as opened:
            feed = self._sources.feed()
            opened.callback(feed.close)
            hardware = self._sources.hardware()
            opened.callback(hardware.close)
            unattached = Unattached(self._sources)
            opened.callback(unattached.stop)
            builder, recorder = ViewBuilder(), Recorder()
            view: View | None = None
            shown_from: View | None = None
            shown: View | None = None
            # The driver may take seconds to start, so the first view doesn't wait for it.
            devices, devices_at = host_memory_only(), float("-inf")
            catalogue: Catalogue | None = None
            following: Following | None = None
            facts = CatalogueState()
            before_events: tuple[int, FeedState, HardwareState] | None = None
            events = NO_HISTORY.events
            begun_at = changed_at = time.monotonic()
            processes = None
            while not self._stopping.is_set():
                before, processes = processes, feed.poll()
                if processes is not before:
                    changed_at = time.monotonic()
                if view is not None and time.monotonic() - devices_at >= self.interval_seconds:
                    devices, devices_at = unattached.see(hardware.read(), processes), time.monotonic()
                if catalogue is not None:
                    facts = catalogue.state()
                now = (processes, devices, facts)
                seen = self.seen
                if view is None or seen is None or any(new is not old and new != old for new, old in zip(now, seen, strict=True)):
                    view, self.seen = builder.build(*now), now
                self.has_read_devices = devices_at >= 0
                # Events refer to devices, so recording begins when these are known.
                history = recorder.record(view, time.time_ns()) if devices_at >= 0 else NO_HISTORY
                if devices_at >= 0:
                    this_moment = time.time_ns(), processes, devices
                    if before_events is None or history.events is not events:
                        self._note_moment(before_events or this_moment)
                    before_events, events = this_moment, history.events
                if shown is None or view is not shown_from or history is not shown.history:
                    shown, shown_from = replace(view, history=history), view
                    self._publish(shown)
                if catalogue is None and time.monotonic() - begun_at >= PATIENCE_SECONDS:
                    from gpumodels_tui.following import Following

                    # The first drawing needs no model files, so the modules that read them are imported after it.
                    catalogue = self._sources.catalogue()
                    following = Following(catalogue)
                    opened.callback(catalogue.stop)
                    catalogue.start()
                if following is not None:
                    following.see(processes, devices)
                if devices_at >= 0:
                    is_quiet = time.monotonic() - changed_at >= QUIET_SECONDS
                    self._wait_for_next_poll(QUIET_SHARE if is_quiet else FEED_SHARE)
                else:
                    self._has_listener.wait(PATIENCE_SECONDS)  # leave the processor to the first drawing

    def _note_moment(self, moment: tuple[int, FeedState, HardwareState]) -> None:
        if self._moments is None:
            from gpumodels_tui.moments import Moments  # the first drawing needs none

            self._moments = Moments()
        self._moments.note(*moment)

    def _wait_for_next_poll(self, share: float = FEED_SHARE) -> None:
        """Wait for this share of the interval, which may become shorter meanwhile."""
        begun_at = time.monotonic()
        while (left := begun_at + self.interval_seconds * share - time.monotonic()) > 0:
            if self._pause.acquire(timeout=min(left, LONGEST_WAIT_SECONDS)):
                self._pause.release()
                return

    def _publish(self, view: View) -> None:
        with self._listener_lock:
            self._newest = view
            if self._listener is not None:
                self._listener[0](view)
        self._has_news.set()
