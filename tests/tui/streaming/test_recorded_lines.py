"""A recording's events as lines, with what the moments around them know of their models."""

from __future__ import annotations

import json
from pathlib import Path

from gpumodels_tui.recording.reading import read_recording
from gpumodels_tui.streaming.event_lines import EventLines
from gpumodels_tui.streaming.recorded_lines import recorded_lines
from recordings import SECOND_NS, a_recording, holding
from snapshots import NOON_NS


def test_each_event_has_the_facts_of_its_model(tmp_path: Path) -> None:
    recording = read_recording([a_recording(tmp_path / "r", [(0, holding("a")), (10, holding("a", "b")), (20, holding("b"))])])
    lines = [json.loads(line) for line in recorded_lines(recording, EventLines(), NOON_NS)]
    assert [(line["seq"], line["event"], line["model"], line["kind"], line["class"]) for line in lines] == [
        (1, "loaded", "b", "checkpoint", "WanModel"),
        (2, "unloaded", "a", "checkpoint", "WanModel"),
    ]
    assert [json.loads(line)["event"] for line in recorded_lines(recording, EventLines(), NOON_NS + 15 * SECOND_NS)] == [
        "unloaded"
    ]
