"""A box of text: it scrolls, and a click beside it closes it."""

from __future__ import annotations

import pytest
from rich.text import Text

from apps import SMALL, app_showing, on_screen, pressed
from gpumodels_tui.screens.overview import OverviewScreen
from gpumodels_tui.screens.text_screen import TextScreen
from screen_text import lines_shown, shown
from views import a_full_view, a_view


@pytest.mark.slow
async def test_a_long_list_of_warnings_scrolls() -> None:
    app = app_showing(a_full_view([f"{number}.gpm: empty file" for number in range(200)]))
    async with app.run_test(size=(80, 12)) as pilot:
        await pressed(pilot, "w")
        assert "• 0.gpm" in shown(app)
        await pressed(pilot, "G")
        assert "• 199.gpm" in shown(app)
        await pressed(pilot, "g", "pagedown", "j")
        assert "• 0.gpm" not in shown(app)
        for key, first in {"home": 0, "down": 1, "j": 2, "up": 1, "k": 0, "pagedown": 10, "pageup": 0}.items():
            await pressed(pilot, key)
            assert next(line for line in lines_shown(app) if "• " in line).split("• ")[1].startswith(f"{first}.gpm")


@pytest.mark.slow
async def test_a_click_beside_a_box_closes_it_and_one_inside_does_not() -> None:
    app = app_showing(a_full_view(["a warning"]))
    async with app.run_test(size=SMALL) as pilot:
        for key in ("question_mark", "w", "ctrl+p"):
            await pressed(pilot, key)
            assert not on_screen(app, OverviewScreen)
            await pilot.click(offset=(40, 11))
            await pilot.pause()
            assert not on_screen(app, OverviewScreen)
            await pilot.click(offset=(0, 22))
            await pilot.pause()
            assert on_screen(app, OverviewScreen)


async def test_a_box_draws_names_as_they_stand_and_closes_by_the_key_that_opened_it() -> None:
    app = app_showing(a_view())
    async with app.run_test(size=SMALL) as pilot:
        app.push_screen(TextScreen("a [b]title[/b]", [Text("[red]a name[/red]")], closing_key="i", columns=40))
        await pilot.pause()
        assert "a [b]title[/b]" in shown(app)
        assert "[red]a name[/red]" in shown(app)
        assert "Esc closes" in shown(app)
        assert "scroll" not in shown(app)  # there is nothing to scroll to
        assert app.screen.query_one("Vertical").size.width <= 40
        await pressed(pilot, "x", "i")
        assert on_screen(app, OverviewScreen)
