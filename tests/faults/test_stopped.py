"""Stopped processes and jumping clocks: the age of a snapshot shows after three silent beats, a stall after
ten, its end within one, and no process is falsely dead."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from gpumodels_shared.cleaning import clean_dead_files
from gpumodels_shared.codec import encode
from gpumodels_shared.liveness import Liveness
from gpumodels_tui.sources.feed import SnapshotFeed
from hosts import Host
from processes import wait_until
from snapshots import a_model, a_snapshot, published

Reached = Callable[[str, str], None]
WatchedHost = Callable[..., contextlib.AbstractContextManager[Host]]

BEAT_SECONDS: Final = 0.25
"""`a_host` beats four times a second."""
YEAR_NS: Final = 365 * 24 * 3600 * 10**9


class Viewer:
    """Polls the only process in the directory by a clock of its own, so that nothing depends on how busy the machine is."""

    def __init__(self, directory: Path) -> None:
        self._now = 1000.0
        self._feed = SnapshotFeed([directory], clock=lambda: self._now)

    def state(self) -> Liveness | None:
        rows = self._feed.poll().processes
        return rows[0].liveness if rows and rows[0].snapshot is not None else None

    def beats_until_stalled(self) -> tuple[float, float]:
        """By how many beats this clock must advance until silence is told as an age, and counts as a stall.

        It polls ten times per beat.
        """
        assert self.state() is Liveness.LIVE
        late = float("inf")
        for tenths in range(1, 200):
            self._now += BEAT_SECONDS / 10
            if self.state() is Liveness.STALLED:
                return late, tenths / 10
            if self._feed.poll().processes[0].late_seconds is not None:
                late = min(late, tenths / 10)
        return late, float("inf")

    def stays_stalled(self, seconds: int) -> bool:
        """Whether it counts as stalled for all these seconds of this clock."""
        states = set()
        for _ in range(seconds):
            self._now += 1
            states.add(self.state())
        return states == {Liveness.STALLED}

    def is_live_with_the_next_beat(self, host: Host) -> bool:
        """Whether the first poll after the next beat shows it as live."""
        with host.reader() as reader:
            silent_at = reader.heartbeat().beat
            wait_until(lambda: reader.heartbeat().beat != silent_at or self.state() is not Liveness.STALLED)
            return self.state() is Liveness.LIVE and reader.heartbeat().beat != silent_at

    def close(self) -> None:
        self._feed.close()


@pytest.fixture
def viewer(shared_memory: Path) -> Iterator[Viewer]:
    viewer = Viewer(shared_memory)
    yield viewer
    viewer.close()


def test_a_stopped_process_is_stalled_until_it_continues(
    shared_memory: Path, watched_host: WatchedHost, viewer: Viewer, reached: Reached
) -> None:
    with watched_host(shared_memory) as host:
        wait_until(lambda: viewer.state() is Liveness.LIVE)
        os.kill(host.pid, signal.SIGSTOP)
        os.waitpid(host.pid, os.WUNTRACED)  # it is stopped now
        late, stalled = viewer.beats_until_stalled()
        stays = viewer.stays_stalled(60)
        continues = threading.Timer(0.05, os.kill, [host.pid, signal.SIGCONT])
        continues.start()
        is_live = viewer.is_live_with_the_next_beat(host)
        continues.join()
    reached("stopped", f"SIGSTOP: late after {late:.1f} beats, stalled after {stalled:.1f}, live with the first beat after")
    assert late <= 5.2  # the writer's lock and name are looked at every half second, which is two of these beats
    assert 10 <= stalled <= 10.2
    assert stays
    assert is_live


HOLD: Final = """
import ctypes
libc = ctypes.PyDLL(None)  # which keeps the lock in its calls
def hold():
    asks, tells = (os.open(path, os.O_RDWR) for path in (ASKS, TELLS))
    answer = ctypes.create_string_buffer(1)
    os.read(asks, 1)
    sys.setswitchinterval(1000)
    libc.write(tells, b"h", 1)
    libc.read(asks, answer, 1)
    sys.setswitchinterval(0.005)
held = threading.Thread(target=hold)
held.start()
"""


def test_a_held_interpreter_is_stalled_until_it_is_let_go(
    shared_memory: Path, tmp_path: Path, watched_host: WatchedHost, viewer: Viewer, reached: Reached
) -> None:
    asks, tells = tmp_path / "asks", tmp_path / "tells"
    for path in (asks, tells):
        os.mkfifo(path)
    asking, told = (os.open(path, os.O_RDWR) for path in (asks, tells))
    with watched_host(shared_memory) as host:
        wait_until(lambda: viewer.state() is Liveness.LIVE)
        host.tell(HOLD.replace("ASKS", repr(str(asks))).replace("TELLS", repr(str(tells))))
        os.write(asking, b"h")
        os.read(told, 1)  # it is held now
        late, stalled = viewer.beats_until_stalled()
        stays = viewer.stays_stalled(30)
        lets_go = threading.Timer(0.05, os.write, [asking, b"l"])
        lets_go.start()
        is_live = viewer.is_live_with_the_next_beat(host)
        lets_go.join()
        host.tell("held.join()")
    os.close(asking)
    os.close(told)
    reached("stopped", f"GIL held: late after {late:.1f} beats, stalled after {stalled:.1f}, live with the first beat after")
    assert late <= 5.2  # the writer's lock and name are looked at every half second, which is two of these beats
    assert 10 <= stalled <= 10.2
    assert stays
    assert is_live


@pytest.mark.parametrize("jump_ns", [YEAR_NS, -YEAR_NS])
def test_a_wall_clock_that_jumps_makes_no_process_look_dead(
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
    """A viewer's monotonic clock runs on (macOS) or stands still (Linux) meanwhile; neither makes the process look dead."""
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
