"""Stages begin and end once each, with their own times."""

from __future__ import annotations

from dataclasses import replace

from gpumodels_shared.schema import Stage
from gpumodels_tui.catalogue.facts import CatalogueState
from gpumodels_tui.sources.gpus import HardwareState
from gpumodels_tui.streaming.stage_events import StageChanges, StageEvent, stage_events_since
from gpumodels_tui.view.builder import build_view
from gpumodels_tui.view.rows import View
from snapshots import NOON_NS, a_feed, a_snapshot


def view_with(*stages: Stage) -> View:
    return build_view(a_feed(replace(a_snapshot(), stages=stages)), HardwareState(), CatalogueState())


def told(events: list[StageEvent]) -> list[tuple[str, str, int]]:
    return [(event.stage.name, event.event, event.at_ns - NOON_NS) for event in events]


LOADER = Stage("4", "Loader", NOON_NS, NOON_NS + 5)
RUNNING = Stage("5", "KSampler", NOON_NS + 6)
ENDED = replace(RUNNING, ended_at_ns=NOON_NS + 9)


def test_a_stage_begins_and_ends_once() -> None:
    changes = StageChanges()
    assert changes.see(view_with(LOADER)) == []
    assert told(changes.see(view_with(LOADER, RUNNING))) == [("KSampler", "began", 6)]
    assert changes.see(view_with(LOADER, RUNNING)) == []
    assert told(changes.see(view_with(LOADER, ENDED))) == [("KSampler", "ended", 9)]
    again = replace(RUNNING, started_at_ns=NOON_NS + 20, ended_at_ns=NOON_NS + 21)
    assert told(changes.see(view_with(ENDED, again))) == [("KSampler", "began", 20), ("KSampler", "ended", 21)]


def test_what_snapshots_still_say_of_the_past_is_told_on_request() -> None:
    assert told(stage_events_since(view_with(LOADER, ENDED), NOON_NS + 5)) == [
        ("Loader", "ended", 5),
        ("KSampler", "began", 6),
        ("KSampler", "ended", 9),
    ]
