"""The one thread behind the screens: reads what there is to read, and hands on a view whenever it is a new one."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from gpumodels_tui.catalogue.facts import CatalogueState
from gpumodels_tui.feed import FeedState
from gpumodels_tui.gpus import HardwareState
from gpumodels_tui.history import Recorder
from gpumodels_tui.sources import Sources
from gpumodels_tui.view_model import View, ViewBuilder

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


class WatchingThread(threading.Thread):
    """Both callbacks are called in this thread: they must be quick and thread-safe."""

    def __init__(self, sources: Sources, on_view: Callable[[View], None], on_failure: Callable[[Exception], None]) -> None:
        """Args:
        sources: What is read; opened and closed in here.
        on_view: Given each new view.
        on_failure: Told what ended the thread, if not `stop`.
        """
        super().__init__(name="gpumodels-watching", daemon=True)
        self._sources = sources
        self._on_view = on_view
        self._on_failure = on_failure
        self._stopping = threading.Event()
        self.interval_seconds = INTERVAL_SECONDS
        """May be changed at any time."""

    def run(self) -> None:
        """Until `stop`."""
        try:
            self._watch()
        except Exception as error:  # noqa: BLE001  # whatever it is, the screen must say it rather than stand still
            self._on_failure(error)

    def stop(self) -> None:
        """End it and let go of files, driver and watches. May be called more than once, started or not."""
        self._stopping.set()
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
            devices, devices_at = HardwareState(), float("-inf")
            catalogue: Catalogue | None = None
            following: Following | None = None
            facts = CatalogueState()
            begun_at = time.monotonic()
            while not self._stopping.is_set():
                processes = feed.poll()
                if time.monotonic() - devices_at >= self.interval_seconds:
                    devices, devices_at = hardware.read(), time.monotonic()
                if catalogue is not None:
                    facts = catalogue.state()
                now = (processes, devices, facts)
                if view is None or seen is None or any(new is not old and new != old for new, old in zip(now, seen, strict=True)):
                    view, seen = builder.build(*now), now
                history = recorder.record(view, time.time_ns())
                if shown is None or view is not shown_from or history is not shown.history:
                    shown, shown_from = replace(view, history=history), view
                    self._on_view(shown)
                if catalogue is None and time.monotonic() - begun_at >= PATIENCE_SECONDS:
                    from gpumodels_tui.following import Following

                    # The first picture needs no model files: what reads them is loaded when it stands.
                    catalogue = self._sources.catalogue()
                    following = Following(catalogue)
                    opened.callback(catalogue.stop)
                    catalogue.start()
                if following is not None:
                    following.see(processes)
                self._stopping.wait(self.interval_seconds * FEED_SHARE)
