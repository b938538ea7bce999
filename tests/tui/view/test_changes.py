"""Every event between two views, renames and stalls among them."""

from __future__ import annotations

from gpumodels_shared.liveness import Liveness
from gpumodels_tui.catalogue.facts import CatalogueState
from gpumodels_tui.sources.gpus import HardwareState
from gpumodels_tui.view.builder import build_view
from gpumodels_tui.view.changes import Changes, model_rows
from gpumodels_tui.view.events import EventKind
from gpumodels_tui.view.recorder import Recorder
from gpumodels_tui.view.rows import View
from snapshots import GIB, MINUTE_NS, NOON_NS, a_feed, a_model, a_process_state, a_snapshot


def view_of(*models: object, liveness: Liveness = Liveness.LIVE) -> View:
    state = a_process_state(a_snapshot(*models), liveness)  # type: ignore[arg-type]
    return build_view(a_feed(state), HardwareState(), CatalogueState())


def test_a_model_that_gets_another_name_is_renamed() -> None:
    changes = Changes()
    assert changes.see(view_of(a_model("WanModel", GIB, id="m1")), NOON_NS) == []
    (event,) = changes.see(view_of(a_model("Wan2_2", GIB, id="m1")), NOON_NS + 1)
    assert (event.kind, event.previous_name, event.name, event.at_ns) == (EventKind.RENAMED, "WanModel", "Wan2_2", NOON_NS + 1)


def test_a_process_that_falls_silent_is_stalled_and_comes_back() -> None:
    changes = Changes()
    changes.see(view_of(), NOON_NS)
    (stalled,) = changes.see(view_of(liveness=Liveness.STALLED), NOON_NS)
    (resumed,) = changes.see(view_of(), NOON_NS)
    (died,) = changes.see(view_of(liveness=Liveness.DEAD), NOON_NS)
    assert [stalled.kind, resumed.kind, died.kind] == [EventKind.STALLED, EventKind.RESUMED, EventKind.DIED]


def test_what_began_before_the_first_view_is_told_with_the_sidecars_times() -> None:
    changes = Changes()
    changes.see(view_of(a_model("m", GIB)), NOON_NS)
    earlier = [(event.kind, event.at_ns) for event in changes.earlier(0)]
    assert earlier == [(EventKind.STARTED, NOON_NS - 60 * MINUTE_NS), (EventKind.LOADED, NOON_NS - 2 * MINUTE_NS)]
    assert [event.kind for event in changes.earlier(NOON_NS - 3 * MINUTE_NS)] == [EventKind.LOADED]


def test_each_model_is_listed_once() -> None:
    view = view_of(a_model("m", GIB, device="cuda:0", off_bytes=GIB))
    assert [row.model.name for row in model_rows(view).values()] == ["m"]


def test_a_timeline_that_is_told_of_renames_gives_the_names_to_its_events() -> None:
    changes, recorder = Changes(), Recorder()
    changes.see(view_of(), NOON_NS)
    pending = a_model("WanModel", GIB, id="m1", name_source="pending", confidence=0.0)
    other = a_model("T5", GIB, id="m2", name_source="pending", confidence=0.0)
    named = a_model("Wan2_2", GIB, id="m1")
    for view in (view_of(pending, other), view_of(named, other)):
        for event in changes.see(view, NOON_NS):
            recorder.remember(event)
    assert [event.name for event in recorder.events] == ["T5 …", "Wan2_2"] or [event.name for event in recorder.events] == [
        "Wan2_2",
        "T5 …",
    ]
