"""The palette: words narrow it, the best match comes first, Enter goes there."""

from __future__ import annotations

import pytest

from apps import SMALL, app_showing, on_screen, pressed, under_cursor
from gpumodels_tui.screens.overview import OverviewScreen
from gpumodels_tui.screens.palette import Choice, ChoiceTable, PaletteScreen
from gpumodels_tui.screens.process import ProcessScreen
from gpumodels_tui.screens.timeline import TimelineScreen
from gpumodels_tui.widgets.plain_input import PlainInput
from views import a_full_view, a_view


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


async def test_what_begins_with_the_words_comes_before_what_has_them_and_that_before_what_is_only_said_of_it() -> None:
    names = {"SDXL": "vae of flux", "the flux LoRA": "lora", "Flux.1-dev": "checkpoint", "clip-l": "clip on GPU 0"}
    app = app_showing(a_view())
    async with app.run_test(size=SMALL) as pilot:
        palette = PaletteScreen([Choice(name, hint, lambda: None) for name, hint in names.items()])
        taken: list[Choice | None] = []
        app.push_screen(palette, taken.append)
        await pilot.pause()
        table = palette.query_one(ChoiceTable)

        def offered() -> list[str]:
            return [choice.name for choice in table.rows]

        assert offered() == list(names)
        palette.query_one(PlainInput).value = "FLUX"
        await pilot.pause()
        assert offered() == ["Flux.1-dev", "the flux LoRA", "SDXL"]
        palette.query_one(PlainInput).value = "vae flux"  # both, in any order
        await pilot.pause()
        assert offered() == ["SDXL"]
        await pressed(pilot, "enter")
        assert [choice.name for choice in taken if choice is not None] == ["SDXL"]
