"""The application over the thread behind it: a failure ends it, and a terminal that is behind is spared."""

from __future__ import annotations

import pytest

from gpumodels_tui.app import GpuModelsApp
from gpumodels_tui.sources.feed import SnapshotFeed
from gpumodels_tui.sources.opening import Sources
from gpumodels_tui.watching import WatchingThread
from screen_text import shown
from snapshots import GIB
from views import a_gpu, a_row, a_view


class BrokenSources(Sources, frozen=True):
    """Reading fails in a way that nobody thought of."""

    def feed(self) -> SnapshotFeed:
        raise RuntimeError("the [bold]disk\x1b is on fire")


async def test_a_failure_of_the_thread_ends_the_viewer_with_code_1() -> None:
    thread = WatchingThread(BrokenSources())
    thread.start()
    app = GpuModelsApp(watching=thread)
    async with app.run_test() as pilot:
        while app.is_running and app.return_code is None:
            await pilot.pause(0.01)
    assert app.return_code == 1


async def test_a_terminal_that_is_behind_is_sent_the_newest_view_alone_when_it_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    has_room = True
    monkeypatch.setattr("gpumodels_tui.app.is_writable", lambda: has_room)
    app = GpuModelsApp(a_view(a_gpu(a_row("at-first"))))
    async with app.run_test() as pilot:
        await pilot.pause()
        drawn = app.view
        has_room = False
        for size in range(1, 6):
            app.receive(a_view(a_gpu(a_row("newest", size * GIB))))
            await pilot.pause()
        assert app.view is drawn
        await pilot.press("question_mark")
        assert "Keys" in shown(app)  # keys are answered all the same
        await pilot.press("escape")
        has_room = True
        while app.view is drawn:
            await pilot.pause(0.01)
        await pilot.pause()
        assert "5.0 GB" in shown(app)


async def test_a_frozen_picture_stays_when_a_terminal_that_was_behind_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    has_room = False
    monkeypatch.setattr("gpumodels_tui.app.is_writable", lambda: has_room)
    app = GpuModelsApp(a_view(a_gpu(a_row("at-first"))))
    async with app.run_test() as pilot:
        app.receive(a_view(a_gpu(a_row("newer"))))
        await pilot.press("space")
        has_room = True
        app.receive(a_view(a_gpu(a_row("newest"))))
        await pilot.pause()
        assert "at-first" in shown(app)
        await pilot.press("space")
        await pilot.pause()
        assert "newest" in shown(app)
