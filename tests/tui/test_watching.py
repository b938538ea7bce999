"""The thread behind the screens: a new view for each change, none without one, and a failure that is said."""

from __future__ import annotations

import os
import queue
import threading
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

import snapshots
from gpumodels_shared.codec import encode
from gpumodels_shared.identity import this_process
from gpumodels_shared.records import field
from gpumodels_shared.writer import SnapshotWriter
from gpumodels_tui import watching
from gpumodels_tui.moments import UnknownMomentError
from gpumodels_tui.sources.feed import SnapshotFeed
from gpumodels_tui.sources.gpus import Hardware, HardwareState
from gpumodels_tui.sources.opening import Sources
from gpumodels_tui.view.events import EventKind
from gpumodels_tui.view.rows import View
from gpumodels_tui.watching import FEED_SHARE, LONGEST_WAIT_SECONDS, QUIET_SECONDS, QUIET_SHARE, WatchingThread
from snapshots import GIB, MIB, a_model, a_process, a_snapshot, some_hardware

PATIENCE_SECONDS = 30


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


def test_what_was_there_before_an_event_is_known_afterwards(tmp_path: Path) -> None:
    directory = tmp_path / "gpm"
    directory.mkdir(mode=0o700)
    views: queue.Queue[View] = queue.Queue()
    thread = WatchingThread(Sources((directory,)))
    with pytest.raises(UnknownMomentError):
        thread.around(time.time_ns())
    thread.tell(views.put, lambda _: None)
    with closing(SnapshotWriter(directory, this_process(), heartbeat_ms=60_000)) as writer:
        writer.publish(encode(a_snapshot(a_model("first", MIB))))
        thread.start()
        try:
            while not (view := next_view_with(views, {"first"})).history.events:
                pass
            writer.publish(encode(a_snapshot(a_model("first", MIB), a_model("second", MIB))))
            while not any(event.name == "second" for event in view.history.events):
                view = next_view_with(views, {"first", "second"})
            before, after = thread.around(view.history.events[0].at_ns)
        finally:
            thread.stop()
    held = [[model.name for process in one.processes for model in process.models] for one in (before, after)]
    assert held == [["first"], ["first", "second"]]


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


class BrokenSources(Sources):
    """Reading fails in a way that nobody thought of, as soon as it may."""

    may_fail: threading.Event = field(default_factory=threading.Event)

    def feed(self) -> SnapshotFeed:
        assert self.may_fail.wait(PATIENCE_SECONDS)
        raise RuntimeError("the disk is on fire")


def test_what_ended_the_thread_is_told_to_those_who_listen_and_to_those_who_come_later() -> None:
    may_fail = threading.Event()
    thread = WatchingThread(BrokenSources(may_fail=may_fail))
    told: list[str] = []
    thread.tell(lambda view: told.append("a view"), lambda error: told.append(str(error)))
    thread.start()
    may_fail.set()
    assert thread.first(PATIENCE_SECONDS) is None
    thread.join(PATIENCE_SECONDS)
    assert told == ["the disk is on fire"]
    thread.tell(lambda view: told.append("a view"), lambda error: told.append(str(error)))
    assert told == ["the disk is on fire"] * 2


def test_a_shorter_interval_takes_effect_while_the_longer_one_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    thread = WatchingThread(Sources(), 3600.0)
    waits: list[float] = []

    def acquire(timeout: float) -> bool:
        waits.append(timeout)
        thread.interval_seconds = 0.0
        return False

    monkeypatch.setattr(thread, "_pause", SimpleNamespace(acquire=acquire))
    thread._wait_for_next_poll()
    assert waits == [LONGEST_WAIT_SECONDS]


def test_stopping_ends_a_long_wait_and_may_be_repeated(tmp_path: Path) -> None:
    thread = WatchingThread(Sources((tmp_path,)), 3600.0)
    thread.start()
    assert thread.first(PATIENCE_SECONDS) is not None
    for _ in range(2):
        thread.stop()
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()


def test_files_that_say_nothing_new_for_a_while_are_polled_half_as_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shares: list[float] = []
    now = 100.0
    thread = WatchingThread(Sources((tmp_path,)))

    def wait(share: float) -> None:
        nonlocal now
        shares.append(share)
        now += QUIET_SECONDS / 2
        if len(shares) == 4:
            thread.stop()

    monkeypatch.setattr(thread, "_wait_for_next_poll", wait)
    monkeypatch.setattr(watching, "time", SimpleNamespace(monotonic=lambda: now, time_ns=time.time_ns))
    thread.tell(lambda view: None, lambda error: None)
    thread.run()
    assert shares == [FEED_SHARE, FEED_SHARE, QUIET_SHARE, QUIET_SHARE]
