"""A recording is read up to where it is damaged, at any moment, and no file costs more than its limits."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
from pathlib import Path

import pytest

from gpumodels_tui.recording import reading, writing
from gpumodels_tui.recording.lines import RecordingError
from gpumodels_tui.recording.reading import Cursor, Recording, read_recording
from gpumodels_tui.view.events import EventKind
from recordings import SECOND_NS, a_recording, holding
from snapshots import NOON_NS


def names_at(recording: Recording, seconds: float) -> set[str]:
    _, (feed, _, _) = Cursor(recording).at(NOON_NS + int(seconds * SECOND_NS))
    return {model.name for process in feed.processes if process.snapshot for model in process.snapshot.models}


MOMENTS = [(0.0, holding("a")), (1.0, holding("a", "b")), (2.0, holding("b")), (3.0, holding("b", "c"))]


@pytest.mark.parametrize("member_seconds", [0.0, 300.0])
def test_any_moment_can_be_gone_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, member_seconds: float) -> None:
    monkeypatch.setattr(writing, "MEMBER_SECONDS", member_seconds)
    recording = read_recording([a_recording(tmp_path / "r", MOMENTS)])
    assert recording.problems == []
    assert (recording.begun_at_ns, recording.ended_at_ns) == (NOON_NS, NOON_NS + 3 * SECOND_NS)
    assert len(recording.members) == (1 if member_seconds else 4)
    cursor = Cursor(recording)
    seen = []
    for seconds in (3.5, 0.0, 2.9, 1.0, -5.0):
        _, (feed, _, _) = cursor.at(NOON_NS + int(seconds * SECOND_NS))
        assert feed.processes[0].snapshot is not None
        seen.append("".join(sorted(model.name for model in feed.processes[0].snapshot.models)))
    assert seen == ["bc", "a", "b", "ab", "a"]
    assert [event.kind for event in recording.events][-2:] == [EventKind.UNLOADED, EventKind.LOADED]


def test_between_two_moments_nothing_is_read_again(tmp_path: Path) -> None:
    cursor = Cursor(read_recording([a_recording(tmp_path / "r", MOMENTS)]))
    assert cursor.at(NOON_NS + 10)[1] is cursor.at(NOON_NS + 20)[1]


def test_a_cut_recording_is_shown_up_to_there_wherever_it_was_cut(tmp_path: Path) -> None:
    whole = a_recording(tmp_path / "r", MOMENTS).read_bytes()
    counts = set()
    for length in range(1, len(whole), 5):
        path = tmp_path / "cut"
        path.write_bytes(whole[:length])
        try:
            recording = read_recording([path])
        except RecordingError:
            continue
        counts.add(len(recording.members[0].times))
        assert len(recording.problems) == 1, length
        assert "its end is missing; it is shown up to there" in recording.problems[0]
        assert names_at(recording, 0) == {"a"}
    assert counts == {1, 2, 3, 4}


def test_a_damaged_byte_anywhere_costs_what_follows_and_is_said(tmp_path: Path) -> None:
    whole = a_recording(tmp_path / "r", MOMENTS).read_bytes()
    path = tmp_path / "damaged"
    for position in range(0, len(whole), 7):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :])
        with contextlib.suppress(RecordingError):  # nothing else is ever raised
            recording = read_recording([path])
            cursor = Cursor(recording)
            for member in recording.members:
                for at_ns in member.times:
                    cursor.at(at_ns)


def test_what_is_no_recording_is_said_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "r"
    for content in (
        b"",
        b"hello",
        os.urandom(5000),
        gzip.compress(b"hello\n"),
        gzip.compress(b'{"at_ns": 5}\n'),
        gzip.compress(b""),
    ):
        path.write_bytes(content)
        with pytest.raises(RecordingError) as refused:
            read_recording([path])
        assert str(refused.value).startswith(f"{path}: "), content
        assert "\n" not in str(refused.value)
    for content in (b"hello", b'{"schema": 1, "processes": []}\n' * 20_000, os.urandom(500_000)):
        path.write_bytes(content)
        with pytest.raises(RecordingError, match="not a recording of gpumodels-tui"):
            read_recording([path])
    path.write_bytes(gzip.compress(b'{"at_ns": 5, "recording": 2, "state": {}}\n'))
    with pytest.raises(RecordingError, match="needs a newer gpumodels-tui"):
        read_recording([path])


def test_a_bomb_ends_at_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LONGEST_LINE_BYTES", 2**20)
    path = tmp_path / "bomb"
    path.write_bytes(gzip.compress(b'{"at_ns":' + b"1" * 2**25))
    with pytest.raises(RecordingError, match="a line that is too long"):
        read_recording([path])
    monkeypatch.setattr(reading, "MOST_LINES", 100)
    path.write_bytes(gzip.compress(b'{"at_ns":5,"recording":1,"state":{}}\n' * 5000))
    recording = read_recording([path])
    assert sum(len(member.times) for member in recording.members) == 100
    assert "is too long; the rest is left out" in recording.problems[0]


def test_clocks_that_are_set_back_do_not_turn_time_around(tmp_path: Path) -> None:
    path = a_recording(tmp_path / "r", [(5.0, holding("a")), (1.0, holding("b")), (6.0, holding("c"))])
    times = read_recording([path]).members[0].times
    assert [time - NOON_NS for time in times] == [5 * SECOND_NS, 5 * SECOND_NS, 6 * SECOND_NS]


def test_files_that_follow_one_another_are_one_recording_and_a_bad_one_costs_itself(tmp_path: Path) -> None:
    first = a_recording(tmp_path / "1", MOMENTS[:2])
    second = a_recording(tmp_path / "3", [(60.0, holding("z"))])
    bad = tmp_path / "2"
    bad.write_bytes(b"not gzip")
    recording = read_recording([first, bad, second])
    assert [names_at(recording, seconds) for seconds in (1, 30, 61)] == [{"a", "b"}, {"a", "b"}, {"z"}]
    assert len(recording.problems) == 1
    loaded = [event.name for event in recording.events if event.kind is EventKind.LOADED]
    assert sorted(loaded) == ["a", "b", "z"]
    started = [event for event in recording.events if event.kind is EventKind.STARTED]
    assert len(started) == 1  # the second recorder told it, too


def test_a_state_can_be_read_without_this_program(tmp_path: Path) -> None:
    with gzip.open(a_recording(tmp_path / "r", MOMENTS)) as file:
        lines = [json.loads(line) for line in file]
    assert lines[0]["recording"] == 1
    assert list(lines[0]["state"]["processes"]) == ["4711"]
    assert lines[1]["patch"]["processes"]["4711"]["snapshot"]["models"]["b"]["name"] == "b"
    assert lines[2]["patch"]["processes"]["4711"]["snapshot"]["models"] == {"a": None}
