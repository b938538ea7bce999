"""What every full screen does: newer views, warnings, a frozen picture, and a terminal that is too small."""

from __future__ import annotations

import pytest

from apps import SMALL, app_showing, listed, on_screen, pressed
from gpumodels_shared.records import replace
from gpumodels_tui.app import GpuModelsApp
from gpumodels_tui.screens.overview import OverviewScreen
from gpumodels_tui.screens.text_screen import TextScreen
from gpumodels_tui.screens.view_screen import ViewScreen
from gpumodels_tui.view.events import Event, EventKind, History
from gpumodels_tui.widgets.model_table import ModelTable
from screen_text import lines_shown, shown
from snapshots import GIB, NOON_NS, WAN
from views import a_full_view, a_gpu, a_row, a_view


@pytest.mark.parametrize("size", [(59, 24), (80, 9), (20, 4)])
async def test_a_terminal_that_is_too_small_is_told_so_in_one_line(size: tuple[int, int]) -> None:
    app = app_showing(a_full_view(["a warning"]))
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        lines = [line for line in lines_shown(app) if line]
        assert len(lines) == 1
        assert lines[0].startswith(f"{size[0]}×{size[1]} is too small")
        await pilot.resize_terminal(*SMALL)
        await pilot.pause()
        assert WAN in shown(app)


@pytest.mark.slow
async def test_warnings_are_counted_and_w_lists_them() -> None:
    app = app_showing(a_full_view(["a.gpm: [bold]empty[/] file"]))
    async with app.run_test(size=SMALL) as pilot:
        await pilot.pause()
        assert "1 warning: w" in shown(app)
        await pressed(pilot, "w")
        assert isinstance(app.screen, TextScreen)
        assert "a.gpm: [bold]empty[/] file" in shown(app)
        await pressed(pilot, "w")
        assert on_screen(app, OverviewScreen)
        app.receive(a_full_view())
        await pilot.pause()
        assert "warning" not in shown(app)
        await pressed(pilot, "w")
        assert on_screen(app, OverviewScreen)


async def test_a_newer_history_is_news_for_the_timeline_alone() -> None:
    view = a_full_view()
    loaded = Event(1, NOON_NS, EventKind.LOADED, "newcomer", "vllm 1", "0", GIB, "newcomer")
    app = app_showing(view)
    async with app.run_test(size=SMALL) as pilot:
        await pilot.pause()
        drawn = app.screen.query_one(ModelTable).rows
        app.receive(replace(view, history=History((loaded,))))
        await pilot.pause()
        assert app.screen.query_one(ModelTable).rows is drawn
        await pressed(pilot, "t")
        assert "newcomer" in shown(app)
        app.receive(replace(view, history=History((replace(loaded, number=2, name="another"), loaded))))
        await pilot.pause()
        assert "another" in shown(app)


async def test_a_screen_that_missed_a_view_while_it_was_mounted_shows_it_once_it_is_there() -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "t")
        screen = app.screen
        assert isinstance(screen, ViewScreen)
        before = screen.view
        loaded = Event(1, NOON_NS, EventKind.LOADED, "newcomer", "vllm 1", "0", GIB, "newcomer")
        newer = replace(a_full_view(), history=History((loaded,)))
        app.set_reactive(GpuModelsApp.view, newer)  # nobody is told
        assert screen.view is before
        assert "newcomer" not in shown(app)
        screen.post_message(ViewScreen.Completed(screen))
        await pilot.pause()
        assert screen.view is newer
        assert "newcomer" in shown(app)


@pytest.mark.slow
async def test_a_frozen_picture_stays_and_goes_on_with_the_newest() -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "space")
        app.receive(a_view(a_gpu(a_row("newcomer"))))
        await pilot.pause()
        assert WAN in shown(app)
        assert "Frozen at" in shown(app)
        await pressed(pilot, "enter", "p")
        assert "Frozen at" in shown(app)
        await pressed(pilot, "escape", "escape", "space")
        assert listed(app) == ["newcomer"]
        assert "Frozen" not in shown(app)


async def test_what_is_there_to_be_selected_is_uncut_and_stays_until_something_else_is_said() -> None:
    app = app_showing(a_full_view())
    path = "/srv/models/" + "deep/" * 40 + "model.safetensors"
    async with app.run_test(size=SMALL) as pilot:
        await pilot.pause()
        screen = app.screen
        assert isinstance(screen, ViewScreen)
        screen.say("sent:", exactly=path)
        await pilot.pause()
        assert "".join(line.strip() for line in lines_shown(app)[-6:]).startswith("sent:" + path)
        await pilot.resize_terminal(120, 24)
        await pilot.pause()
        assert "".join(line.strip() for line in lines_shown(app)[-5:]).startswith("sent:" + path)
        screen.say("something else")
        await pilot.pause()
        assert "deep/" not in shown(app)
        assert lines_shown(app)[-2].strip() == "something else"
