"""A moment has the newest state, and every event since the moment before."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from gpumodels_tui.catalogue.facts import CatalogueState
from gpumodels_tui.recording.sampling import Moments
from gpumodels_tui.view.builder import build_view
from gpumodels_tui.view.events import EventKind
from gpumodels_tui.watching import WatchingThread
from recordings import holding
from snapshots import GIB, some_hardware


def test_a_moment_has_what_happened_since_the_one_before() -> None:
    thread: Any = SimpleNamespace(seen=None, has_read_devices=False)
    moments = Moments(cast("WatchingThread", thread), 0)

    def show(*names: str) -> None:
        thread.seen = (holding(*names), some_hardware(), CatalogueState())
        moments.see(build_view(*thread.seen))

    show("a")
    assert moments.take() is None  # the devices aren't known yet
    thread.has_read_devices = True
    show("a")
    first = moments.take()
    assert first is not None
    assert [event.kind for event in first.events] == [EventKind.STARTED, EventKind.LOADED]
    assert first.used == {"host": 64 * GIB}
    show("a", "b")
    show("a")
    second = moments.take()
    assert second is not None
    assert [(event.kind, event.name) for event in second.events] == [(EventKind.LOADED, "b"), (EventKind.UNLOADED, "b")]
    third = moments.take()
    assert third is not None
    assert (third.events, third.used) == ((), {"host": 64 * GIB})
