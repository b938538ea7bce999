"""The timeline at a moment of a recording: what a viewer would have had then."""

from __future__ import annotations

from pathlib import Path

from gpumodels_tui.recording.reading import Recording, Sample, read_recording
from gpumodels_tui.replaying.timeline_history import TimelineHistory
from gpumodels_tui.view.events import EventKind
from recordings import SECOND_NS, a_recording, holding
from snapshots import GIB, NOON_NS


def test_events_come_and_go_with_the_moment(tmp_path: Path) -> None:
    recording = read_recording([a_recording(tmp_path / "r", [(0, holding("a")), (10, holding("a", "b")), (20, holding("b"))])])
    history = TimelineHistory(recording)

    def told(seconds: float) -> list[tuple[EventKind, str]]:
        return [(event.kind, event.name) for event in history.at(NOON_NS + int(seconds * SECOND_NS)).events[:-1]]

    loaded_a, loaded_b, unloaded_a = (EventKind.LOADED, "a"), (EventKind.LOADED, "b"), (EventKind.UNLOADED, "a")
    assert told(0) == [loaded_a]
    assert told(15) == [loaded_b, loaded_a]
    assert told(30) == [unloaded_a, loaded_b, loaded_a]
    assert told(9) == [loaded_a]
    assert history.at(NOON_NS + 5) is history.at(NOON_NS + 6)


def test_graphs_have_the_most_of_each_few_seconds_and_nothing_where_nothing_was_recorded() -> None:
    def sample(seconds: int, used: int) -> Sample:
        return Sample(NOON_NS + seconds * SECOND_NS, {"host": used * GIB})

    recording = Recording(samples=[sample(0, 1), sample(1, 3), sample(2, 2), sample(10, 4), sample(600, 5), sample(4000, 6)])
    history = TimelineHistory(recording)
    noon = NOON_NS // SECOND_NS
    (values,) = history.at(NOON_NS + 700 * SECOND_NS).samples.values()
    assert [(at - noon, None if used is None else used // GIB) for at, used in values] == [
        (0, 3),
        (10, 4),
        (11, None),
        (600, 5),
    ]
    (last_hour,) = history.at(NOON_NS + 4000 * SECOND_NS).samples.values()
    assert [used for _, used in last_hour if used] == [5 * GIB, 6 * GIB]
