"""The one thread behind the screens: reads what there is to read, and hands on a view whenever it is a new one."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from gpumodels_tui.catalogue.facts import CatalogueState
from gpumodels_tui.sources.feed import FeedState
from gpumodels_tui.sources.gpus import HardwareState, host_alone
from gpumodels_tui.sources.opening import Sources
from gpumodels_tui.view.builder import ViewBuilder
from gpumodels_tui.view.events import History
from gpumodels_tui.view.recorder import Recorder
from gpumodels_tui.view.rows import View

if TYPE_CHECKING:
    from gpumodels_tui.catalogue.watch import Catalogue
    from gpumodels_tui.following import Following

INTERVAL_SECONDS: Final = 1.0
"""How often the devices are read."""
FEED_SHARE: Final = 0.25
"""The sidecars' files are looked at at this share of it: what a loaded model may be late on the screen."""
PATIENCE_SECONDS: Final = 0.5
"""How long model files wait for the first picture."""
STOP_SECONDS: Final = 2.0
NOTHING_YET: Final = History()


class WatchingThread(threading.Thread):
    """Begins before there is anybody to tell: what comes until then waits, the newest of it."""

    def __init__(self, sources: Sources) -> None:
        """Args:
        sources: What is read; opened and closed in here.
        """
        super().__init__(name="gpumodels-watching", daemon=True)
        self._sources = sources
        self._told: tuple[Callable[[View], None], Callable[[Exception], None]] | None = None
        self._telling = threading.Lock()
        self._newest: View | None = None
        self._failure: Exception | None = None
        self._has_news = threading.Event()
        self._listened_to = threading.Event()
        self._stopping = threading.Event()
        self.interval_seconds = INTERVAL_SECONDS
        """May be changed at any time."""

    def run(self) -> None:
        """Until `stop`."""
        try:
            self._watch()
        except Exception as error:  # noqa: BLE001  # whatever it is, the screen must say it rather than stand still
            with self._telling:
                self._failure = error
                if self._told is not None:
                    self._told[1](error)
            self._has_news.set()

    def first(self, patience_seconds: float) -> View | None:
        """The view of now, as soon as there is one; None after so long without."""
        self._has_news.wait(patience_seconds)
        return self._newest

    def tell(self, on_view: Callable[[View], None], on_failure: Callable[[Exception], None]) -> None:
        """From now on. Both are called in this thread, at once with what is known by now: they must be quick and thread-safe.

        Args:
            on_view: Given each new view.
            on_failure: Told what ended the thread, if not `stop`.
        """
        with self._telling:
            self._told = on_view, on_failure
            self._listened_to.set()
            if self._newest is not None:
                on_view(self._newest)
            if self._failure is not None:
                on_failure(self._failure)

    def stop(self) -> None:
        """End it and let go of files, driver and watches. May be called more than once, started or not."""
        self._stopping.set()
        self._listened_to.set()
        if self.is_alive():
            self.join(STOP_SECONDS)

    def _watch(self) -> None:
        with contextlib.ExitStack() as opened:
            feed = self._sources.feed()
            opened.callback(feed.close)
            hardware = self._sources.hardware()
            opened.callback(hardware.close)
            seen: tuple[FeedState, HardwareState, CatalogueState] | None = None
            builder, recorder = ViewBuilder(), Recorder()
            view: View | None = None
            shown_from: View | None = None
            shown: View | None = None
            # The driver may take seconds to start: the first view doesn't wait for it.
            devices, devices_at = host_alone(), float("-inf")
            catalogue: Catalogue | None = None
            following: Following | None = None
            facts = CatalogueState()
            begun_at = time.monotonic()
            while not self._stopping.is_set():
                processes = feed.poll()
                if view is not None and time.monotonic() - devices_at >= self.interval_seconds:
                    devices, devices_at = hardware.read(), time.monotonic()
                if catalogue is not None:
                    facts = catalogue.state()
                now = (processes, devices, facts)
                if view is None or seen is None or any(new is not old and new != old for new, old in zip(now, seen, strict=True)):
                    view, seen = builder.build(*now), now
                # What happened is told of devices, so it begins when they are known.
                history = recorder.record(view, time.time_ns()) if devices_at >= 0 else NOTHING_YET
                if shown is None or view is not shown_from or history is not shown.history:
                    shown, shown_from = replace(view, history=history), view
                    self._hand_on(shown)
                if catalogue is None and time.monotonic() - begun_at >= PATIENCE_SECONDS:
                    from gpumodels_tui.following import Following

                    # The first picture needs no model files: what reads them is loaded when it stands.
                    catalogue = self._sources.catalogue()
                    following = Following(catalogue)
                    opened.callback(catalogue.stop)
                    catalogue.start()
                if following is not None:
                    following.see(processes)
                if devices_at >= 0:
                    self._stopping.wait(self.interval_seconds * FEED_SHARE)
                else:
                    self._listened_to.wait(PATIENCE_SECONDS)  # the first picture has the processor for itself

    def _hand_on(self, view: View) -> None:
        with self._telling:
            self._newest = view
            if self._told is not None:
                self._told[0](view)
        self._has_news.set()
