"""A list of models: sorted by keys and by titles, opened by keys and by the mouse."""

from __future__ import annotations

import pytest
from textual.events import MouseScrollDown, MouseScrollUp

from apps import LARGE, SMALL, app_showing, listed, pressed, selected
from gpumodels_tui.screens.layers import LayersScreen
from gpumodels_tui.screens.text_screen import TextScreen
from gpumodels_tui.widgets.line_table import WHEEL_LINES
from gpumodels_tui.widgets.model_table import ModelTable
from screen_text import shown
from snapshots import WAN
from views import a_full_view, a_gpu, a_host, a_row, a_view, an_unattached, many_models


@pytest.mark.slow
async def test_a_click_selects_a_double_click_opens_and_the_wheel_scrolls() -> None:
    app = app_showing(many_models(60))
    async with app.run_test(size=SMALL) as pilot:
        await pilot.pause()
        table = app.screen.query_one(ModelTable)
        await pilot.click(ModelTable, offset=(10, 4))
        assert selected(app) == "model-03"
        await pilot.click(ModelTable, offset=(10, 0))
        assert selected(app) == "model-03"
        for event in (MouseScrollDown, MouseScrollDown, MouseScrollUp):
            table.post_message(event(table, 10, 5, 0, 0, 0, False, False, False))
        await pilot.pause()
        assert table.top_row == WHEEL_LINES
        assert selected(app) == "model-03"
        await pilot.click(ModelTable, offset=(10, 2), times=2)
        await pilot.pause()
        assert isinstance(app.screen, LayersScreen)


async def test_s_and_f6_sort_by_the_next_thing_and_r_turns_it_around() -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "s")
        assert "age↑" in shown(app)
        assert listed(app)[0] == WAN  # its adapter is younger, and stands below it
        await pressed(pilot, "f6")
        assert "name↑" in shown(app)
        assert listed(app)[0] == "umt5-xxl-enc"
        await pressed(pilot, "r")
        assert "name↓" in shown(app)
        assert listed(app)[0] == "wan_2.1_vae"


async def test_less_and_greater_sort_by_the_column_beside() -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=LARGE) as pilot:
        await pressed(pilot, "greater_than_sign")
        assert "off dev↓" in shown(app)
        await pressed(pilot, "less_than_sign", "less_than_sign")
        assert "kind↑" in shown(app)


async def test_a_click_on_a_title_sorts_and_another_turns_the_order_around() -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=SMALL) as pilot:
        await pilot.pause()
        await pilot.click(ModelTable, offset=(6, 0))
        await pilot.pause()
        assert "name↑" in shown(app)
        await pilot.click(ModelTable, offset=(6, 0))
        await pilot.pause()
        assert "name↓" in shown(app)


@pytest.mark.parametrize("size", [(60, 10), SMALL, LARGE])
@pytest.mark.parametrize("keys", [(), ("p",), ("tab",)])
async def test_i_opens_the_facts_of_the_selected_model_and_closes_them(size: tuple[int, int], keys: tuple[str, ...]) -> None:
    row = a_row(facts={"title": "A title"}, metadata={"ss_network_dim": "16"})
    app = app_showing(a_view(a_gpu(row), a_host(number=2)))
    async with app.run_test(size=size) as pilot:
        await pressed(pilot, *keys, "i")
        assert isinstance(app.screen, TextScreen)
        assert "Facts" in shown(app)
        await pressed(pilot, "end")
        assert "ss_network_dim" in shown(app)
        await pressed(pilot, "i")
        assert not isinstance(app.screen, TextScreen)


async def test_i_on_a_process_without_a_sidecar_tells_what_is_known_of_it() -> None:
    app = app_showing(a_view(a_gpu(unattached=[an_unattached()]), a_host(number=2)))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "1", "i")
        assert "no sidecar runs in this process" in " ".join(shown(app).split())


async def test_without_a_row_i_does_nothing() -> None:
    app = app_showing(a_view(a_gpu(), a_host(number=2)))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "i")
        assert not isinstance(app.screen, TextScreen)
