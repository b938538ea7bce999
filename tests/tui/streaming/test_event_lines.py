"""Every line has the keys of its type, always, and nothing in it can end the line or steer a terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpumodels_shared.liveness import Liveness
from gpumodels_shared.schema import Model, Stage
from gpumodels_tui.catalogue.facts import CatalogueState
from gpumodels_tui.sources.gpus import HardwareState
from gpumodels_tui.streaming.event_lines import EventLines, as_line, lag_line
from gpumodels_tui.streaming.stage_events import StageEvent
from gpumodels_tui.view.builder import build_view
from gpumodels_tui.view.changes import Changes
from gpumodels_tui.view.events import EventKind
from snapshots import GIB, NOON_NS, a_device, a_feed, a_model, a_process_state, a_snapshot


def lines_of(*moments: tuple[Sequence[Model], Liveness]) -> list[dict[str, Any]]:
    """The lines of what happens to one process."""
    changes, events, lines = Changes(), EventLines(), []
    for number, (models, liveness) in enumerate(moments):
        state = a_process_state(a_snapshot(*models), liveness)
        view = build_view(a_feed(state), HardwareState(), CatalogueState())
        events.see(view)
        lines += [line for event in changes.see(view, NOON_NS + number) if (line := events.of(event)) is not None]
    return [json.loads(line) for line in lines]


def test_a_models_life_is_told_in_the_words_of_the_timeline() -> None:
    on, off = a_model("wan", GIB, device="cuda:0", id="m1"), a_model("wan", 0, device="cuda:0", off_bytes=GIB, id="m1")
    renamed = a_model("Wan2_2", GIB, device="cuda:0", id="m1")
    live = Liveness.LIVE
    lines = lines_of(([], live), ([on], live), ([off], live), ([on], live), ([renamed], live), ([], live))
    told = [(line["event"], line["model"], line["previous_name"], line["bytes"]) for line in lines]
    assert told == [
        ("loaded", "wan", None, GIB),
        ("offloaded", "wan", None, GIB),
        ("moved to GPU", "wan", None, GIB),
        ("renamed", "Wan2_2", "wan", None),
        ("unloaded", "Wan2_2", None, GIB),
    ]
    assert {(line["type"], line["pid"], line["process"], line["user"]) for line in lines} == {
        ("model", 4711, "ComfyUI/main.py", "ada")
    }
    assert len({tuple(line) for line in lines}) == 1  # the same keys in each
    assert [line["seq"] for line in lines] == [1, 2, 3, 4, 5]


def test_a_model_whose_name_is_final_at_last_but_the_same_is_not_renamed() -> None:
    pending = a_model("wan", GIB, id="m1", name_source="pending", confidence=0.0)
    settled = a_model("wan", GIB, id="m1", name_source="class", confidence=0.0)
    assert lines_of(([pending], Liveness.LIVE), ([settled], Liveness.LIVE)) == []


def test_a_processs_end_tells_what_it_held() -> None:
    (died,) = lines_of(([a_model("wan", GIB)], Liveness.LIVE), ([a_model("wan", GIB)], Liveness.DEAD))
    assert (died["type"], died["event"], died["models_bytes"]) == ("process", "died", GIB)
    assert died["models"] == [{"name": "wan", "bytes": GIB}]
    (stalled,) = lines_of(([], Liveness.LIVE), ([], Liveness.STALLED))
    assert (stalled["event"], stalled["models_bytes"]) == ("stalled", None)
    assert stalled.keys() == died.keys()


def test_out_of_memory_is_a_devices_event() -> None:
    changes, events = Changes(), EventLines()
    lines = []
    for count in (0, 2):
        memory = replace(a_device("cuda:0", GIB, reserved_bytes=2 * GIB), out_of_memory_count=count)
        state = a_process_state(a_snapshot(a_model("wan", GIB, device="cuda:0"), devices=[memory]))
        view = build_view(a_feed(state), HardwareState(), CatalogueState())
        events.see(view)
        lines += [events.of(event) for event in changes.see(view, NOON_NS)]
    (line,) = [json.loads(line) for line in lines if line is not None]
    assert (line["type"], line["event"], line["times"], line["reserved_bytes"]) == ("device", "out of memory", 2, 2 * GIB)
    assert line["models"] == [{"name": "wan", "bytes": GIB}]


def test_the_other_lines_are_numbered_with_them() -> None:
    events = EventLines()
    began = json.loads(events.began())
    stage = json.loads(
        events.of_stage(StageEvent(NOON_NS, "began", a_process_state(a_snapshot()), Stage("4", "KSampler", NOON_NS)))
    )
    state = json.loads(events.state({"schema": 1}))
    assert (began["event"], stage["type"], stage["stage"]["name"], state["document"]) == (
        "began",
        "stage",
        "KSampler",
        {"schema": 1},
    )
    assert [began["seq"], stage["seq"], state["seq"]] == [1, 2, 3]
    assert json.loads(lag_line(7, 9)) | {"at": ""} == {"seq": 9, "at": "", "type": "stream", "event": "lag", "dropped": 7}


def test_nothing_in_a_line_ends_it_or_steers_a_terminal() -> None:
    line = as_line({"name": "a\nb\r\x1b[31m\x7f\u2028\ud800\u202e"})
    assert line.count(b"\n") == 1
    assert line.isascii()
    assert all(byte >= 0x20 for byte in line[:-1])
    assert b"\x7f" not in line


def test_the_document_has_the_words_and_keys_of_each_type() -> None:
    text = (Path(__file__).parents[3] / "docs" / "follow.md").read_text(encoding="utf-8")
    rows = [[re.findall(r"`([^`]+)`", cell) for cell in line.strip("|").split("|")] for line in text.splitlines()]
    events = {row[0][0]: row[1] for row in rows if len(row) == 3 and row[0]}
    keys = {row[0][0]: row[2] for row in rows if len(row) == 3 and row[0]}
    words = {kind.value for kind in EventKind}
    assert {*events["process"], *events["model"], *events["device"]} == words
    (process,) = lines_of(([], Liveness.LIVE), ([], Liveness.DEAD))
    (model,) = lines_of(([], Liveness.LIVE), ([a_model("wan", GIB)], Liveness.LIVE))
    common = {"seq", "at", "type", "event"}
    assert process.keys() - common == set(keys["process"])
    assert model.keys() - common <= {*keys["model"]}
