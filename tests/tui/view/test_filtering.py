"""One view after the other through the filters: what stays the same, and what of the history is left."""

from __future__ import annotations

import json

from gpumodels_shared.records import replace
from gpumodels_tui import json_output
from gpumodels_tui.catalogue.facts import CatalogueState
from gpumodels_tui.oneshot import Snapshots
from gpumodels_tui.view.builder import ViewBuilder, build_view
from gpumodels_tui.view.events import EventKind, History
from gpumodels_tui.view.filtering import ViewFilter, filtered
from gpumodels_tui.view.filters import NO_FILTERS, Filters
from gpumodels_tui.view.recorder import Recorder
from gpumodels_tui.view.rows import View
from snapshots import GIB, MIB, NOON_NS, a_feed, a_gpu, a_model, a_process, a_process_state, a_snapshot, some_hardware


def views(*states: tuple[tuple[str, str, int], ...]) -> list[View]:
    """Views with their history, a second apart: in each, models by user, name and bytes; a process for each user."""
    builder, recorder, found = ViewBuilder(), Recorder(), []
    for second, models in enumerate(states):
        processes = []
        for number, user in enumerate(sorted({user for user, _, _ in models})):
            own = [a_model(name, size, device="cuda:0") for owner, name, size in models if owner == user]
            snapshot = a_snapshot(*own, process=a_process(f"{user}.py", 100 + number))
            processes.append(a_process_state(snapshot, key=user, user=user))
        view = builder.build(a_feed(*processes), some_hardware(a_gpu()), CatalogueState())
        found.append(replace(view, history=recorder.record(view, NOON_NS + second * 10**9)))
    return found


def told(history: History) -> set[tuple[EventKind, str]]:
    return {(event.kind, event.name) for event in history.events}


def test_without_filters_the_view_is_the_same_object() -> None:
    (view,) = views((("ada", "one", GIB),))
    assert ViewFilter().shown(view) is view
    assert filtered(view, NO_FILTERS) is view
    assert view.everything is view


def test_what_did_not_change_stays_the_same_object() -> None:
    (view,) = views((("ada", "one", GIB), ("eve", "two", GIB)))
    filter = ViewFilter()
    filter.filters = Filters(users=("ada",))
    first = filter.shown(view)
    again = filter.shown(replace(view, progress="indexing", history=History()))
    assert again.devices is first.devices
    assert again.process_rows is first.process_rows
    assert (again.progress, again.history.events) == ("indexing", ())
    assert again.everything.progress == "indexing"
    filter.filters = Filters(users=("eve",))
    assert [row.name for device in filter.shown(view).devices for row in device.models] == ["two"]


def test_the_history_is_of_those_that_are_shown_and_of_those_that_were() -> None:
    before, after = views((("ada", "one", GIB), ("eve", "two", 50 * MIB)), (("ada", "three", GIB),))
    filter = ViewFilter()
    for filters, expected in (
        (
            Filters(users=("eve",)),
            {(EventKind.STARTED, "eve.py 101"), (EventKind.LOADED, "two"), (EventKind.EXITED, "eve.py 101")},
        ),
        (
            Filters(min_bytes=GIB),
            {
                (EventKind.STARTED, "ada.py 100"),
                *((EventKind.LOADED, one) for one in ("one", "three")),
                (EventKind.UNLOADED, "one"),
            },
        ),
        (Filters(names=("three",)), {(EventKind.STARTED, "ada.py 100"), (EventKind.LOADED, "three")}),
        (
            Filters(gpus=("host",)),
            {(EventKind.STARTED, "ada.py 100"), (EventKind.STARTED, "eve.py 101"), (EventKind.EXITED, "eve.py 101")},
        ),
    ):
        filter.filters = filters
        filter.shown(before)
        assert told(filter.shown(after).history) == expected, filters.in_words()
    filter.filters = NO_FILTERS
    assert told(filter.shown(after).history) == told(after.history)


def test_the_history_stays_filtered_whatever_of_the_view_changes() -> None:
    """It was whole again when a model changed without an event."""
    before, after = views((("ada", "one", GIB), ("eve", "two", GIB)), (("ada", "one", GIB + 1), ("eve", "two", GIB)))
    filter = ViewFilter()
    filter.filters = Filters(users=("eve",))
    expected = {(EventKind.STARTED, "eve.py 101"), (EventKind.LOADED, "two")}
    first = filter.shown(before)
    assert told(first.history) == expected
    second = filter.shown(replace(after, history=before.history))
    assert second.history is first.history
    assert told(filter.shown(after).history) == expected


def test_a_device_that_only_hidden_processes_report_is_hidden_too() -> None:
    feed = a_feed(
        *(
            a_process_state(
                a_snapshot(a_model("one", GIB, device="cuda:0"), process=a_process(pid=pid)), key=f"/{user}.gpm", user=user
            )
            for pid, user in ((1, "ada"), (2, "eve"))
        )
    )
    view = build_view(feed, some_hardware(), CatalogueState())
    assert [device.key for device in view.devices] == ["/ada.gpm:cuda:0", "/eve.gpm:cuda:0", "host"]
    assert [device.key for device in filtered(view, Filters(users=("eve",))).devices] == ["/eve.gpm:cuda:0", "host"]
    seen = Snapshots(feed, some_hardware(), CatalogueState(), NOON_NS)
    assert len(json.loads(json_output.text(seen))["gpus"]) == 2
    assert len(json.loads(json_output.text(seen, Filters(users=("eve",))))["gpus"]) == 1


def test_what_no_event_tells_of_any_more_is_forgotten() -> None:
    filter = ViewFilter()
    filter.filters = Filters(users=("ada",))
    for number in range(3):
        (view,) = views(tuple(("ada", f"{number}-{model}", GIB) for model in range(600)))
        filter.shown(replace(view, history=History()))
    assert len(filter._models) <= 1200
