"""The thread behind the screens: a new view for each change, none without one, and a failure that is said."""

from __future__ import annotations

import os
import queue
import threading
from contextlib import closing
from pathlib import Path

import pytest

import snapshots
from gpumodels_shared.codec import encode
from gpumodels_shared.identity import this_process
from gpumodels_shared.writer import SnapshotWriter
from gpumodels_tui.app import GpuModelsApp
from gpumodels_tui.sources.feed import SnapshotFeed
from gpumodels_tui.sources.gpus import Hardware, HardwareState
from gpumodels_tui.sources.opening import Sources
from gpumodels_tui.view.events import EventKind
from gpumodels_tui.view.rows import View
from gpumodels_tui.watching import WatchingThread
from screen_text import shown
from snapshots import GIB, MIB, a_model, a_process, a_snapshot, some_hardware
from views import a_gpu, a_row, a_view

PATIENCE_SECONDS = 30


class BrokenSources(Sources, frozen=True):
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
    thread = WatchingThread(Sources((directory,)))
    thread.tell(views.put, failures.append)
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
    WatchingThread(Sources((tmp_path,))).stop()


def test_what_is_found_before_anybody_listens_waits_for_them(tmp_path: Path) -> None:
    directory = tmp_path / "gpm"
    directory.mkdir(mode=0o700)
    with closing(SnapshotWriter(directory, this_process(), heartbeat_ms=60_000)) as writer:
        writer.publish(encode(a_snapshot(a_model("early", MIB))))
        thread = WatchingThread(Sources((directory,)))
        thread.start()
        try:
            first = thread.first(PATIENCE_SECONDS)
            assert first is not None
            assert names(first) == {"early"}
            views: queue.Queue[View] = queue.Queue()
            thread.tell(views.put, lambda error: None)
            assert names(views.get(timeout=PATIENCE_SECONDS)) == {"early"}
        finally:
            thread.stop()


class WaitingHardware(Hardware):
    """Its driver takes as long as the test likes."""

    may_answer = threading.Event()

    def read(self) -> HardwareState:
        assert self.may_answer.wait(PATIENCE_SECONDS)
        return super().read()


class SlowDriver(Sources, frozen=True):
    """A machine with such hardware."""

    def hardware(self) -> Hardware:
        return WaitingHardware()


def test_the_first_view_does_not_wait_for_the_driver(tmp_path: Path) -> None:
    directory = tmp_path / "gpm"
    directory.mkdir(mode=0o700)
    with closing(SnapshotWriter(directory, this_process(), heartbeat_ms=60_000)) as writer:
        writer.publish(encode(a_snapshot(a_model("early", MIB))))
        thread = WatchingThread(SlowDriver((directory,)))
        thread.start()
        try:
            first = thread.first(PATIENCE_SECONDS)
        finally:
            WaitingHardware.may_answer.set()
            thread.stop()
    assert first is not None
    assert names(first) == {"early"}


class OneGpu(Hardware):
    """A machine with a GPU that everything runs on."""

    def read(self) -> HardwareState:
        return some_hardware(snapshots.a_gpu(processes={os.getpid(): GIB}))


class WithOneGpu(Sources, frozen=True):
    """A machine with such hardware."""

    def hardware(self) -> Hardware:
        return OneGpu()


def test_what_happened_is_told_of_the_driver_s_devices_from_the_first(tmp_path: Path) -> None:
    directory = tmp_path / "gpm"
    directory.mkdir(mode=0o700)
    views: queue.Queue[View] = queue.Queue()
    with closing(SnapshotWriter(directory, this_process(), heartbeat_ms=60_000)) as writer:
        process = a_process(pid=os.getpid())
        writer.publish(encode(a_snapshot(a_model("early", GIB, device="cuda:0"), process=process)))
        thread = WatchingThread(WithOneGpu((directory,)))
        thread.tell(views.put, lambda error: None)
        thread.start()
        try:
            while not (view := views.get(timeout=PATIENCE_SECONDS)).history.events:
                pass
            assert [(event.kind, event.device) for event in view.history.events] == [
                (EventKind.LOADED, "0"),
                (EventKind.STARTED, ""),
            ]
            writer.publish(encode(a_snapshot(process=process)))
            while (view := views.get(timeout=PATIENCE_SECONDS)).history.events[0].kind is EventKind.LOADED:
                pass
            assert (view.history.events[0].kind, view.history.events[0].device) == (EventKind.UNLOADED, "0")
            assert len(view.history.events) == 3
        finally:
            thread.stop()


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
    monkeypatch.setattr("gpumodels_tui.app.keeps_up", lambda: has_room)
    app = GpuModelsApp(a_view(a_gpu(a_row("at-first"))))
    async with app.run_test() as pilot:
        await pilot.pause()
        drawn = app.view
        has_room = False
        for size in range(1, 30):
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
        assert "29.0 GB" in shown(app)


async def test_a_frozen_picture_stays_when_a_terminal_that_was_behind_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    has_room = False
    monkeypatch.setattr("gpumodels_tui.app.keeps_up", lambda: has_room)
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
