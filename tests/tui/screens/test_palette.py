"""The palette: words narrow it, the best match comes first, Enter goes there."""

from __future__ import annotations

import pytest

from apps import SMALL, app_showing, on_screen, pressed, under_cursor
from gpumodels_tui.screens.overview import OverviewScreen
from gpumodels_tui.screens.palette import PaletteScreen
from gpumodels_tui.screens.process import ProcessScreen
from gpumodels_tui.screens.timeline import TimelineScreen
from views import a_full_view


@pytest.mark.slow
async def test_the_palette_goes_to_any_model_by_its_name() -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "enter", "ctrl+p")
        assert on_screen(app, PaletteScreen)
        await pressed(pilot, *"minilm", "enter")
        assert on_screen(app, OverviewScreen)
        assert under_cursor(app) == "all-MiniLM-L6-v2"
        await pressed(pilot, "ctrl+p", "down", "pagedown", "pageup", "up", "escape")
        assert on_screen(app, OverviewScreen)
        await pressed(pilot, "ctrl+p", *"vllm process", "enter")
        assert on_screen(app, ProcessScreen)
        await pressed(pilot, "ctrl+p", *"timeline", "enter")
        assert on_screen(app, TimelineScreen)
        await pressed(pilot, "ctrl+p", *"nothing such", "enter")
        assert on_screen(app, TimelineScreen)
