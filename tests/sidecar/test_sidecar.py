"""When the sidecar's thread works and when it waits, on fake clocks: no time is measured."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpumodels.sidecar import BURST_SECONDS, LONG_PAUSE_SECONDS, PAUSE_SECONDS, Sidecar
from gpumodels.support.other_threads import OtherThreads


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
