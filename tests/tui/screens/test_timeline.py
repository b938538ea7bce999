"""The timeline: graphs of the last hour, and what happened."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from apps import LARGE, SMALL, app_showing, pressed
from gpumodels_shared.records import replace
from gpumodels_tui.app import GpuModelsApp
from gpumodels_tui.screens.layers import LayersScreen
from gpumodels_tui.screens.process import ProcessScreen
from gpumodels_tui.screens.text_screen import TextScreen
from gpumodels_tui.screens.timeline import TimelineScreen
from gpumodels_tui.view.events import Event, EventKind
from gpumodels_tui.widgets.event_table import EventTable
from screen_text import assert_looks_like, lines_shown, shown
from snapshots import GIB, NOON_NS, WAN
from views import a_full_view, a_gpu, a_view, a_view_with_a_past, out_of_memory, with_events

pytestmark = pytest.mark.usefixtures("universal_time")


def listed(app: GpuModelsApp) -> Sequence[Event]:
    return app.screen.query_one(EventTable).rows


@pytest.mark.parametrize(("size", "name"), [(SMALL, "timeline-80x24"), (LARGE, "timeline-120x40")])
async def test_the_timeline_draws_the_hour_and_lists_what_happened(size: tuple[int, int], name: str) -> None:
    app = app_showing(a_view_with_a_past())
    async with app.run_test(size=size) as pilot:
        await pressed(pilot, "t")
        assert [event.kind for event in app.screen.query_one(EventTable).rows][:2] == [EventKind.MOVED_OFF, EventKind.LOADED]
        assert_looks_like(app, name)


@pytest.mark.slow
async def test_o_leaves_the_events_of_the_chosen_model_and_enter_opens_it() -> None:
    app = app_showing(a_view_with_a_past())
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "down", "down", "t", "o")
        table = app.screen.query_one(EventTable)
        assert {event.name for event in table.rows} == {"umt5-xxl-enc"}
        await pressed(pilot, "o")
        assert len(table.rows) == 5
        await pressed(pilot, "g", "o")
        assert [event.name for event in table.rows] == [WAN, WAN]
        await pressed(pilot, "o", "slash", *"memory", "enter", "o")
        assert "about a process" in shown(app)
        await pressed(pilot, "escape", "slash", *"umt5", "enter", "n", "enter")
        assert isinstance(app.screen, LayersScreen)


async def test_a_number_shows_one_devices_graph_and_events_and_zero_all_again() -> None:
    events = [
        Event(2, NOON_NS, EventKind.LOADED, "on-gpu-1", "vllm 90210", "1", GIB, "on-gpu-1"),
        Event(1, NOON_NS, EventKind.LOADED, "on-gpu-0", "vllm 90210", "0", GIB, "on-gpu-0"),
    ]
    app = app_showing(with_events(a_full_view(), *events))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "t", "2")
        assert [event.name for event in listed(app)] == ["on-gpu-1"]
        assert "only GPU 1; 0 shows all" in shown(app)
        assert "GPU 0" not in shown(app)
        await pressed(pilot, "0")
        assert [event.name for event in listed(app)] == ["on-gpu-1", "on-gpu-0"]
        await pressed(pilot, "9")
        assert len(listed(app)) == 2


async def test_of_devices_with_one_name_only_the_chosen_ones_events_are_shown_and_only_its_graph_is_marked() -> None:
    first, second = (replace(a_gpu(index=number), key=f"{number}:cuda:0", label="cuda:0") for number in range(2))
    key = second.key
    events = [
        replace(out_of_memory(), device="cuda:0", device_key=key),
        Event(1, NOON_NS, EventKind.LOADED, "on-second", "vllm 2", "cuda:0", GIB, "on-second", device_key=key),
    ]
    app = app_showing(with_events(a_view(first, second), *events))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "t")
        graphs = [next(line for line in lines_shown(app) if f"GPU {number}" in line) for number in range(2)]
        assert ["!" in graph for graph in graphs] == [False, True]
        await pressed(pilot, "1")
        assert not listed(app)
        await pressed(pilot, "2")
        assert [event.number for event in listed(app)] == [1, 1]


async def test_the_models_that_were_there_when_memory_ran_out_are_named() -> None:
    event = out_of_memory((WAN, 45 * GIB), ("umt5-xxl-enc", 11 * GIB))
    app = app_showing(with_events(a_full_view(), event))
    async with app.run_test(size=LARGE) as pilot:
        await pressed(pilot, "t")
        assert f"with {WAN}, umt5" in shown(app)
        await pressed(pilot, "enter")
        assert isinstance(app.screen, TextScreen)
        text = shown(app)
        for said in ("Out of memory", "GPU 0", "allocator", "70.0 GB", "Models in memory", "45.0 GB", "umt5-xxl-enc"):
            assert said in text
        await pressed(pilot, "i", "p")
        assert isinstance(app.screen, ProcessScreen)


async def test_a_failure_of_another_day_leaves_the_graphs_as_they_are() -> None:
    app = app_showing(with_events(a_full_view(), out_of_memory(minutes_ago=3 * 24 * 60)))
    async with app.run_test(size=LARGE) as pilot:
        await pressed(pilot, "t")
        assert "1 min ago" in shown(app)
        assert len(listed(app)) == 1


async def test_words_find_an_event_by_the_models_that_were_there() -> None:
    other = Event(2, NOON_NS, EventKind.LOADED, "another", "vllm 90210", "1", GIB, "another")
    app = app_showing(with_events(a_full_view(), other, out_of_memory((WAN, 45 * GIB))))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "t", "slash", *"wan2", "enter")
        assert [event.kind for event in listed(app)] == [EventKind.OUT_OF_MEMORY]


async def test_enter_on_a_process_that_started_opens_it_and_on_one_that_ended_says_what_it_held() -> None:
    process = "ComfyUI/main.py 4711"
    started = Event(2, NOON_NS, EventKind.STARTED, process, process, process_key="process 4711")
    died = Event(1, NOON_NS, EventKind.DIED, "train.py 12", "train.py 12", "", GIB, process_key="12", held=(("bert", GIB),))
    app = app_showing(with_events(a_full_view(), started, died))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "t", "enter")
        assert isinstance(app.screen, ProcessScreen)
        await pressed(pilot, "escape", "down", "enter")
        assert "Models it held" in shown(app)
        assert "bert" in shown(app)
        await pressed(pilot, "i")
        assert len(app.screen_stack) == 2


async def test_a_model_that_is_no_more_is_said_to_be_so() -> None:
    gone = Event(1, NOON_NS, EventKind.UNLOADED, "gone", "vllm 90210", "0", GIB, "gone")
    app = app_showing(with_events(a_full_view(), gone))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "t", "enter")
        assert "no longer in memory" in shown(app)


async def test_without_an_event_there_is_nothing_to_open() -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "t", "enter", "i", "o")
        assert isinstance(app.screen, TimelineScreen)
        assert not app.screen.active_bindings["enter"].enabled
        app.receive(with_events(a_full_view(), out_of_memory()))
        await pilot.pause()
        assert app.screen.active_bindings["enter"].enabled


@pytest.mark.parametrize(
    ("known_seconds", "keys", "axis"),
    [
        (5, "", ("1 min ago", "30 s")),
        (70, "", ("10 min ago", "5 min")),
        (1000, "", ("1 h ago", "30 min")),
        (5, "]", ("10 min ago", "5 min")),
        (5, "]]]", ("1 h ago", "30 min")),
        (1000, "[", ("10 min ago", "5 min")),
        (1000, "[[[", ("1 min ago", "30 s")),
    ],
)
async def test_graphs_begin_with_what_is_known_and_brackets_change_their_time(
    known_seconds: int, keys: str, axis: tuple[str, str]
) -> None:
    view = a_full_view()
    now = NOON_NS // 10**9
    samples = {view.devices[0].key: ((now - known_seconds, GIB), (now, 2 * GIB))}
    names = {"[": "left_square_bracket", "]": "right_square_bracket"}
    app = app_showing(replace(view, history=replace(view.history, samples=samples)))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "t", *(names[key] for key in keys))
        line = next(line for line in lines_shown(app) if line.endswith("now"))
        assert all(words in line for words in axis)


async def test_between_two_samples_the_graphs_stand_still() -> None:
    clock = [NOON_NS / 1e9]
    view = a_view_with_a_past()
    app = app_showing(view, clock=lambda: clock[0])
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "t", *["left_square_bracket"] * 3)
        before = lines_shown(app)[1:6]
        clock[0] += 4
        app.receive(replace(view))
        await pilot.pause()
        assert lines_shown(app)[1:6] == before


async def test_i_tells_of_the_events_model_as_well() -> None:
    app = app_showing(a_view_with_a_past())
    async with app.run_test(size=LARGE) as pilot:
        await pressed(pilot, "t", "i")
        assert isinstance(app.screen, TextScreen)
        assert "The model now" in shown(app)
        assert "class" in shown(app)
