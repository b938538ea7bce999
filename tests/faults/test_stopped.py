"""Processes that stand still, and clocks that don't: stalled is seen in three beats, over in one, and nothing is falsely dead."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from gpumodels_shared.cleaning import clean_dead_files
from gpumodels_shared.codec import encode
from gpumodels_shared.liveness import Liveness
from gpumodels_tui.feed import SnapshotFeed
from hosts import Host
from processes import wait_until
from snapshots import a_model, a_snapshot, published

Reached = Callable[[str, str], None]
WatchedHost = Callable[..., contextlib.AbstractContextManager[Host]]

BEAT_SECONDS: Final = 0.25
"""`a_host` beats four times a second."""
SLACK_SECONDS: Final = 0.15
"""For a machine at work on other things."""
YEAR_NS: Final = 365 * 24 * 3600 * 10**9


@pytest.fixture
def seen(shared_memory: Path) -> Iterator[Callable[[], Liveness | None]]:
    """What a viewer that polls says of the one process there."""
    feed = SnapshotFeed([shared_memory])

    def look() -> Liveness | None:
        rows = feed.poll().processes
        return rows[0].liveness if rows and rows[0].snapshot is not None else None

    yield look
    feed.close()


def time_to(state: Liveness, look: Callable[[], Liveness | None]) -> float:
    """Seconds until it is that."""
    started = time.monotonic()
    wait_until(lambda: look() is state, 10)
    return time.monotonic() - started


def test_a_stopped_process_is_stalled_until_it_continues(
    shared_memory: Path, watched_host: WatchedHost, seen: Callable[[], Liveness | None], reached: Reached, full: bool
) -> None:
    standstill = 60 if full else 1
    with watched_host(shared_memory) as host:
        time_to(Liveness.LIVE, seen)
        os.kill(host.pid, signal.SIGSTOP)
        stalled = time_to(Liveness.STALLED, seen) / BEAT_SECONDS
        until = time.monotonic() + standstill
        while time.monotonic() < until:
            assert seen() is Liveness.STALLED
            time.sleep(0.01)
        os.kill(host.pid, signal.SIGCONT)
        live = time_to(Liveness.LIVE, seen) / BEAT_SECONDS
    reached("stopped", f"SIGSTOP for {standstill} s: stalled after {stalled:.1f} beats, live {live:.1f} beats after SIGCONT")
    assert stalled <= 3 + SLACK_SECONDS / BEAT_SECONDS
    assert live <= 1 + SLACK_SECONDS / BEAT_SECONDS


def test_a_held_interpreter_is_stalled_until_it_is_let_go(
    shared_memory: Path, watched_host: WatchedHost, seen: Callable[[], Liveness | None], reached: Reached, full: bool
) -> None:
    hold = 30 if full else 2
    with watched_host(shared_memory) as host:
        time_to(Liveness.LIVE, seen)
        host.tell(f"import ctypes; held = threading.Timer(0.05, ctypes.PyDLL(None).sleep, [{hold}])  # a PyDLL keeps the lock")
        host.tell("held.start()")
        stalled = time_to(Liveness.STALLED, seen) / BEAT_SECONDS
        host.tell("held.join()")
        live = time_to(Liveness.LIVE, seen) / BEAT_SECONDS
    reached("stopped", f"GIL held for {hold} s: stalled after {stalled:.1f} beats, live {live:.1f} beats after")
    assert stalled - 0.05 / BEAT_SECONDS <= 3 + SLACK_SECONDS / BEAT_SECONDS
    assert live <= 1 + SLACK_SECONDS / BEAT_SECONDS


@pytest.mark.parametrize("jump_ns", [YEAR_NS, -YEAR_NS])
def test_a_wall_clock_that_jumps_kills_nobody(
    shared_memory: Path, jump_ns: int, monkeypatch: pytest.MonkeyPatch, reached: Reached
) -> None:
    real = time.time_ns
    offset = 0
    monkeypatch.setattr(time, "time_ns", lambda: real() + offset)
    writer = published(shared_memory, a_snapshot(a_model("wan")), heartbeat_ms=1000)
    now = 1000.0
    feed = SnapshotFeed([shared_memory], clock=lambda: now)
    states = set()
    for beat in range(60):
        offset = jump_ns if beat % 20 >= 10 else 0  # there and back
        writer.publish(encode(a_snapshot(a_model(f"wan {beat}"))))
        (row,) = feed.poll().processes
        states.add(row.liveness)
        assert row.snapshot is not None
        assert row.snapshot.models[0].name == f"wan {beat}"
        now += 1.0
    clean_dead_files(shared_memory)
    assert writer.still_named()
    assert states == {Liveness.LIVE}
    feed.close()
    writer.close()
    reached("clock", f"{'+' if jump_ns > 0 else '−'}1 year and back: 60 polls live, not cleaned away")


def test_a_suspended_machine_wakes_up_with_everybody_alive(shared_memory: Path, reached: Reached) -> None:
    """The monotonic clock of a poller may run on (macOS) or stand still (Linux); neither makes a death of it."""
    writer = published(shared_memory, a_snapshot(a_model("wan")), heartbeat_ms=1000)
    now = 1000.0
    feed = SnapshotFeed([shared_memory], clock=lambda: now)
    feed.poll()
    states = []
    for seconds in (8 * 3600.0, 0.5, 0.5):
        now += seconds
        states.append(feed.poll().processes[0].liveness)
        writer.beat()
    feed.close()
    writer.close()
    reached("clock", f"8 h of suspend: {states[0].value} at the first look, {states[-1].value} one beat later")
    assert Liveness.DEAD not in states
    assert states[-1] is Liveness.LIVE
