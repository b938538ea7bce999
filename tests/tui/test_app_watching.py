"""The thread behind the screens: a new view for each change, none without one, and a failure that is said."""

from __future__ import annotations

import queue
from pathlib import Path

from gpumodels_shared.codec import encode
from gpumodels_shared.identity import this_process
from gpumodels_shared.writer import SnapshotWriter
from gpumodels_tui.app import GpuModelsApp
from gpumodels_tui.feed import SnapshotFeed
from gpumodels_tui.sources import Sources
from gpumodels_tui.view_model import View
from gpumodels_tui.watching import WatchingThread
from snapshots import MIB, a_model, a_snapshot

PATIENCE_SECONDS = 10


class BrokenSources(Sources):
    """Reading fails in a way that nobody thought of."""

    def feed(self) -> SnapshotFeed:
        raise RuntimeError("the [bold]disk\x1b is on fire")


def names(view: View) -> set[str]:
    return {row.name for device in view.devices for row in device.models}


def next_view_with(views: queue.Queue[View], wanted: set[str]) -> View:
    """The first to come that shows these models and no others."""
    while True:
        view = views.get(timeout=PATIENCE_SECONDS)
        if names(view) == wanted:
            return view


def test_each_change_of_a_sidecars_file_becomes_a_view(tmp_path: Path) -> None:
    directory = tmp_path / "gpm"
    directory.mkdir(mode=0o700)
    views: queue.Queue[View] = queue.Queue()
    failures: list[Exception] = []
    thread = WatchingThread(Sources((directory,)), views.put, failures.append)
    thread.start()
    try:
        assert next_view_with(views, set()).processes == ()
        writer = SnapshotWriter(directory, this_process(), heartbeat_ms=60_000)
        writer.publish(encode(a_snapshot(a_model("first", MIB))))
        next_view_with(views, {"first"})
        writer.publish(encode(a_snapshot(a_model("first", MIB), a_model("second", MIB))))
        next_view_with(views, {"first", "second"})
        writer.close()
        next_view_with(views, set())
    finally:
        thread.stop()
    assert failures == []
    assert not thread.is_alive()


def test_stopping_a_thread_that_never_ran_is_harmless(tmp_path: Path) -> None:
    WatchingThread(Sources((tmp_path,)), lambda view: None, lambda error: None).stop()


async def test_a_failure_of_the_thread_ends_the_viewer_with_code_1() -> None:
    app = GpuModelsApp(sources=BrokenSources())
    async with app.run_test() as pilot:
        while app.is_running and app.return_code is None:
            await pilot.pause(0.01)
    assert app.return_code == 1
