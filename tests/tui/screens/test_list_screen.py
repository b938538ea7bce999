"""What a list is filtered by: typed, kept, dropped, and gone through match by match."""

from __future__ import annotations

import pytest

from apps import SMALL, app_showing, has_keys, listed, on_screen, overview, pressed, under_cursor
from gpumodels_tui.screens.layers import LayersScreen
from gpumodels_tui.widgets.model_table import ModelTable
from screen_text import shown
from snapshots import GIB, WAN
from views import a_full_view, a_gpu, a_row, a_view


@pytest.mark.slow
async def test_typing_filters_at_once_and_enter_keeps_and_escape_drops() -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "slash", "v", "a", "e")
        assert listed(app) == ["wan_2.1_vae"]
        await pressed(pilot, "enter")
        assert 'matching "vae"' in shown(app)
        await pressed(pilot, "enter")
        assert on_screen(app, LayersScreen)
        await pressed(pilot, "escape", "escape")
        assert len(listed(app)) == 5
        await pressed(pilot, "slash", "x", "y", "z")
        assert 'Nothing here has "xyz"' in shown(app)
        await pressed(pilot, "escape")
        assert len(listed(app)) == 5
        assert has_keys(app, ModelTable)


@pytest.mark.slow
async def test_a_filter_holds_while_views_come() -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "slash", "w", "a", "n", "enter")
        app.receive(a_view(a_gpu(a_row("wan-new", 3 * GIB), a_row("flux", 9 * GIB))))
        await pilot.pause()
        assert listed(app) == ["wan-new"]


@pytest.mark.slow
async def test_n_goes_through_the_matches_and_around() -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "slash", "l", "o", "r", "a", "enter")
        assert listed(app) == [WAN, "MyLoRA"]
        for key in ("n", "n", "N"):
            await pressed(pilot, key)
            assert under_cursor(app) == "MyLoRA"


async def test_matches_are_gone_through_only_while_there_are_words_and_a_slash_is_a_letter_while_one_types() -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=SMALL) as pilot:
        await pilot.pause()
        screen = overview(app)
        assert screen.check_action("match", (1,)) is None
        await pressed(pilot, "slash")
        assert not screen.check_action("filter", ())
        await pressed(pilot, "slash", "v", "enter")
        assert screen.words == "/v"
        assert screen.check_action("match", (1,))
        assert screen.check_action("filter", ())
