"""Playing: the position goes with the clock and the speed, and over what wasn't recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpumodels_tui.moments import UnknownMomentError
from gpumodels_tui.recording.reading import read_recording
from gpumodels_tui.replaying.player import SPEEDS, Player
from gpumodels_tui.view.events import EventKind
from gpumodels_tui.view.iso_times import time_text
from gpumodels_tui.view.rows import View
from processes import wait_until
from recordings import SECOND_NS, a_recording, holding
from snapshots import NOON_NS

MOMENTS = [(0, holding("a")), (10, holding("a", "b")), (20, holding("b")), (1000, holding("c")), (1010, holding("c", "d"))]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def player(tmp_path: Path, clock: Clock) -> Player:
    return Player(read_recording([a_recording(tmp_path / "r", MOMENTS)]), at_its_end=False, clock=clock)


def seconds(player: Player) -> float:
    return (player.position_ns() - NOON_NS) / SECOND_NS


def names(view: View) -> set[str]:
    return {row.name for device in view.devices for row in device.models}


def test_it_plays_at_its_speed_and_pauses(player: Player, clock: Clock) -> None:
    clock.now += 5
    assert seconds(player) == 5
    assert player.faster(1) == 2
    clock.now += 3
    assert seconds(player) == 11
    assert names(player.view_now()) == {"a", "b"}
    player.pause()
    clock.now += 100
    assert seconds(player) == 11
    player.pause()
    clock.now += 1
    assert seconds(player) == 13
    assert player.faster(100) == SPEEDS[-1]
    assert player.faster(-100) == SPEEDS[0]


def test_what_was_not_recorded_is_passed_over_but_can_be_gone_to(player: Player, clock: Clock) -> None:
    clock.now += 30
    assert seconds(player) == 1000
    player.pause()
    player.go_to(NOON_NS + 500 * SECOND_NS)
    assert seconds(player) == 500
    assert player.is_in_a_gap()
    player.go_to(NOON_NS + 1005 * SECOND_NS)
    assert not player.is_in_a_gap()


def test_before_an_event_and_at_the_moment_that_is_shown_is_what_was_recorded(player: Player) -> None:
    player.pause()
    player.go_to(NOON_NS + 20 * SECOND_NS)
    (event,) = [event for event in player.recording.events if event.name == "b" and event.kind is EventKind.LOADED]
    found = player.around(event.at_ns)
    assert [[model.name for process in one.processes for model in process.models] for one in found] == [["a"], ["b"]]
    assert [one.taken_at for one in found] == [time_text(NOON_NS), time_text(NOON_NS + 20 * SECOND_NS)]
    player.recording.members[0].path.unlink()
    with pytest.raises(UnknownMomentError):
        player.around(event.at_ns)


def test_it_ends_at_the_end_and_begins_again(player: Player, clock: Clock) -> None:
    clock.now += 30
    assert seconds(player) == 1000
    clock.now += 100
    assert player.is_at_its_end
    assert player.is_paused
    player.pause()
    assert (seconds(player), player.is_paused) == (0, False)


def test_it_seeks_within_the_recording(player: Player, clock: Clock) -> None:
    player.seek(-50)
    assert seconds(player) == 0
    player.seek(20)
    assert names(player.view_now()) == {"b"}
    player.seek(-5)
    assert names(player.view_now()) == {"a", "b"}
    player.seek(10**9)
    assert player.is_at_its_end
    assert names(player.view_now()) == {"c", "d"}


def test_it_goes_from_event_to_event(player: Player) -> None:
    player.pause()
    assert [player.go_to_event(1) and seconds(player) for _ in range(4)] == [10, 20, 1000, 1010]
    assert not player.go_to_event(1)
    assert player.go_to_event(-1)
    assert seconds(player) == 1000


def test_the_view_is_the_same_object_while_nothing_is_new(player: Player, clock: Clock) -> None:
    view = player.view_now()
    clock.now += 1
    assert player.view_now() is view


def test_what_cannot_be_read_is_a_warning_on_the_screen(tmp_path: Path, clock: Clock) -> None:
    path = a_recording(tmp_path / "r", MOMENTS)
    player = Player(read_recording([path]), at_its_end=False, clock=clock)
    path.unlink()
    view = player.view_now()
    assert view.devices == ()
    assert any("no such file" in warning for warning in view.warnings)


def test_a_thread_tells_of_each_view_and_of_its_failure(player: Player, monkeypatch: pytest.MonkeyPatch) -> None:
    views: list[View] = []
    failures: list[Exception] = []
    player.tell(views.append, failures.append)
    player.start()
    wait_until(lambda: bool(views))
    player.seek(10)
    wait_until(lambda: names(views[-1]) == {"a", "b"})
    monkeypatch.setattr(player._history, "at", lambda at_ns: 1 // 0)
    wait_until(lambda: bool(failures))
    player.stop()
