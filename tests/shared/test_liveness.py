"""Liveness: the lock tells live from dead, the beats tell stalled from live, by the reader's clock."""

from __future__ import annotations

import pytest

from gpumodels_shared.layout import Heartbeat, WriterState
from gpumodels_shared.liveness import Liveness, Pulse


def beat(count: int, state: WriterState = WriterState.RUNNING, realtime_ns: int = 0) -> Heartbeat:
    """A heartbeat with this count; the writer's wall clock doesn't matter."""
    return Heartbeat(count, realtime_ns, state)


def test_a_writer_that_beats_is_live() -> None:
    pulse = Pulse(heartbeat_ms=1000)
    assert [pulse.observe(beat(count), True, float(count)) for count in range(20)] == [Liveness.LIVE] * 20


def test_ten_silent_beats_are_borne_and_then_it_is_stalled() -> None:
    pulse = Pulse(heartbeat_ms=1000)
    seen = [pulse.observe(beat(1), True, 50.0 + seconds) for seconds in (0.0, 1.0, 9.9, 10.0, 10.1, 60.0)]
    assert seen == [Liveness.LIVE] * 4 + [Liveness.STALLED] * 2


def test_one_beat_revives_a_stalled_writer() -> None:
    pulse = Pulse(heartbeat_ms=500)
    pulse.observe(beat(1), True, 0.0)
    assert pulse.observe(beat(1), True, 60.0) is Liveness.STALLED
    assert pulse.observe(beat(2), True, 60.5) is Liveness.LIVE
    assert pulse.observe(beat(2), True, 65.4) is Liveness.LIVE
    assert pulse.observe(beat(2), True, 65.6) is Liveness.STALLED


@pytest.mark.parametrize("heartbeat_ms", [100, 1000, 60_000])
def test_after_three_silent_beats_its_age_is_told_in_steps_of_a_beat(heartbeat_ms: int) -> None:
    pulse, each = Pulse(heartbeat_ms), heartbeat_ms / 1000
    pulse.observe(beat(1), True, 64.0)
    told = [pulse.late_seconds(64.0 + beats * each) for beats in (0, 1, 2.9, 3, 3.25, 3.75, 4.25, 9.75)]
    assert told == [None, None, None, None, *(pytest.approx(beats * each) for beats in (3, 3, 4, 9))]
    pulse.observe(beat(2), True, 64.0 + 10 * each)
    assert pulse.late_seconds(64.0 + 10 * each) is None


def test_how_long_it_was_still_before_the_reader_came_is_not_told_by_anybodys_wall_clock() -> None:
    pulse = Pulse(heartbeat_ms=1000)
    pulse.observe(beat(1, realtime_ns=1), True, 100.0)
    assert (pulse.late_seconds(105.0), pulse.has_seen_a_beat) == (5, False)
    pulse.observe(beat(2, realtime_ns=1), True, 106.0)
    assert (pulse.late_seconds(111.0), pulse.has_seen_a_beat) == (5, True)


@pytest.mark.parametrize("year_ns", [-31_536_000 * 10**9, 31_536_000 * 10**9])
def test_wall_clocks_may_jump_by_a_year(year_ns: int) -> None:
    now_ns = 1_780_000_000 * 10**9
    pulse = Pulse(heartbeat_ms=1000)
    assert pulse.observe(beat(1, realtime_ns=now_ns), True, 0.0) is Liveness.LIVE
    assert pulse.observe(beat(2, realtime_ns=now_ns + year_ns), True, 1.0) is Liveness.LIVE
    assert pulse.observe(beat(3, realtime_ns=now_ns), True, 2.0) is Liveness.LIVE


def test_a_reader_that_was_stopped_itself_does_not_blame_the_writer() -> None:
    pulse = Pulse(heartbeat_ms=1000)
    pulse.observe(beat(1), True, 0.0)
    assert pulse.observe(beat(3600), True, 3600.0) is Liveness.LIVE


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (WriterState.STARTING, Liveness.DEAD),
        (WriterState.RUNNING, Liveness.DEAD),
        (WriterState.EXITED, Liveness.EXITED),
        (WriterState.SUPERSEDED, Liveness.DEAD),
    ],
)
def test_a_free_file_is_exited_only_if_its_writer_said_so(state: WriterState, expected: Liveness) -> None:
    pulse = Pulse(heartbeat_ms=1000)
    assert pulse.observe(beat(1), True, 0.0) is Liveness.LIVE
    assert pulse.observe(beat(2, state), False, 0.1) is expected


def test_a_heartbeat_interval_of_zero_divides_nothing() -> None:
    pulse = Pulse(heartbeat_ms=0)
    assert pulse.observe(beat(1), True, 0.0) is Liveness.LIVE
    assert pulse.observe(beat(1), True, 1.0) is Liveness.STALLED
