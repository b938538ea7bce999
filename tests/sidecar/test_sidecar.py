"""When the sidecar's thread works and when it waits, on fake clocks: no time is measured."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpumodels.sidecar import BURST_SECONDS, LONG_PAUSE_SECONDS, PAUSE_SECONDS, PROFILED, Sidecar
from gpumodels.support.other_threads import OtherThreads
from gpumodels_shared.schema import OutOfMemory


class Waits(threading.Event):
    """Doesn't wait, but records how long it should have; the last of `count` waits says that it is time to stop."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self._count = count

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds.append(timeout or 0.0)
        return len(self.seconds) >= self._count


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Sidecar]:
    sidecar = Sidecar(tmp_path / "gpm", 1.0, None, None, False)
    try:
        yield sidecar
    finally:
        sidecar.stop()


def test_after_names_were_found_the_next_tick_is_on_time_however_long_the_last_one_took(
    sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    looks: list[float] = []

    def look() -> None:
        looks.append(clock.seconds)
        clock.seconds += 20.0

    def find_names() -> None:
        sidecar._pause_naming()

    monkeypatch.setattr(sidecar, "_tick", look)
    monkeypatch.setattr(sidecar, "_find_names", find_names)
    monkeypatch.setattr(sidecar, "_publish", lambda: None)
    monkeypatch.setattr("gpumodels.sidecar._leave_signals_to_host", lambda: None)
    sidecar._busy_since = float("inf")
    sidecar._stopping = waits = Waits(2)
    sidecar._run()
    assert looks == [100.0, 120.0]  # the second was due while names were found
    assert waits.seconds == [PAUSE_SECONDS, 1.0]


def test_pauses_are_long_only_after_much_work_beside_a_host_that_computes(sidecar: Sidecar) -> None:
    def pauses(spent_seconds: float, busy: bool) -> list[float]:
        sidecar._stopping = waits = Waits(99)
        sidecar._busy_since = time.thread_time() - spent_seconds
        sidecar._others = OtherThreads(iter((1.0,)).__next__, lambda: 1.0 if busy else 0.0, lambda: 0.0)
        sidecar._others._at = 0.0
        with sidecar.fork_gate:
            sidecar._pause()
        return waits.seconds

    assert pauses(0.0, busy=True) == [PAUSE_SECONDS]
    assert pauses(2 * BURST_SECONDS, busy=False) == [PAUSE_SECONDS]
    first, second = pauses(2 * BURST_SECONDS, busy=True)
    assert first == PAUSE_SECONDS
    assert 0.0 <= second <= LONG_PAUSE_SECONDS


def profiler_runs(monkeypatch: pytest.MonkeyPatch, *answers: bool) -> None:
    """Whether a profiler runs, each time it is asked; the last answer stays."""
    running = list(answers)
    monkeypatch.setattr("gpumodels.sidecar.profiler_is_running", lambda: running.pop(0) if len(running) > 1 else running[0])


def test_beside_a_profiler_only_notified_changes_are_looked_for_and_viewers_are_told(
    sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    profiler_runs(monkeypatch, True, True, True, False)
    done: list[str] = []
    notified = iter((False, True, False))
    monkeypatch.setattr(sidecar._observer, "was_notified", lambda: next(notified))
    monkeypatch.setattr(sidecar._observer, "update", lambda only_notified: done.append(f"update {only_notified}"))
    monkeypatch.setattr(sidecar._observer, "find_names", lambda: done.append("names"))
    monkeypatch.setattr(sidecar._publisher, "beat", lambda: done.append("beat"))
    monkeypatch.setattr(sidecar._publisher, "publish", lambda snapshot: done.append(f"publish {PROFILED in snapshot.warnings}"))
    monkeypatch.setattr("gpumodels.sidecar._leave_signals_to_host", lambda: None)
    sidecar._stopping = Waits(4)
    sidecar._run()
    assert done == ["publish True", "update True", "publish True", "beat", "update False", "names", "publish False"]


def test_naming_waits_for_the_end_of_a_profile(sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch) -> None:
    profiler_runs(monkeypatch, True, True, True, False)
    rests: list[int] = []
    monkeypatch.setattr(sidecar, "_rest", lambda: rests.append(len(rests)))
    forgotten: list[bool] = []
    monkeypatch.setattr(sidecar._observer, "forget_momentary", lambda: forgotten.append(True))
    sidecar._tick_at = sidecar._busy_since = float("inf")
    sidecar._stopping = waits = Waits(99)
    with sidecar.fork_gate:
        sidecar._pause_naming()
    assert (rests, forgotten) == ([0, 1], [True])
    assert waits.seconds == [PAUSE_SECONDS, 1.0, 1.0]


@pytest.mark.parametrize("asked", [True, False])
def test_the_allocators_history_is_written_beside_a_record_only_where_it_was_asked_for(
    sidecar: Sidecar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: bool
) -> None:
    written: list[str] = []
    monkeypatch.setattr("gpumodels.sidecar.write_allocator_history", lambda _, path: written.append(path))
    monkeypatch.setenv("GPUMODELS_OOM_SNAPSHOT", "1" if asked else "")
    path = sidecar._keep_record(OutOfMemory(1_780_000_000_000_000_000, "cuda:0"))
    assert path == str(next((tmp_path / "gpm").glob("oom-*.json")))
    assert written == ([path.removesuffix("json") + "pickle"] if asked else [])


def test_when_it_came_into_a_live_process_is_told_once_what_it_found_is_published(tmp_path: Path) -> None:
    before = time.time_ns()
    for attached in (True, False):
        sidecar = Sidecar(tmp_path / "gpm", 1.0, None, None, False, attached)
        try:
            sidecar._tick()
            told = []
            for _ in range(3):
                told.append(sidecar._process.attached_at_ns)
                sidecar._publish()
            assert told[0] is None
            assert told[1] == told[2]
            assert (before <= (told[1] or 0) <= time.time_ns()) is attached
        finally:
            sidecar.stop()
