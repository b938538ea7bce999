"""A box whose text comes later."""

from __future__ import annotations

from apps import SMALL, app_showing, pressed, until_shown
from gpumodels_tui.screens.later_box import LaterBox
from screen_text import shown
from views import a_full_view


async def test_it_says_what_is_going_on_until_the_text_comes_and_how_to_read_all_of_it() -> None:
    app = app_showing(a_full_view())
    app.sub_title = "REPLAY"
    async with app.run_test(size=SMALL) as pilot:
        box = LaterBox("Title", "Working …", "x")
        app.push_screen(box)
        await until_shown(pilot, app, "Working …")
        assert "REPLAY: Title" in shown(app)
        assert "scroll" not in shown(app)
        box.fill("\n".join(f"line {number}" for number in range(60)))
        await until_shown(pilot, app, "Up and Down scroll")
        assert "line 3" in shown(app)
        await pressed(pilot, "end")
        assert "line 59" in shown(app)
        await pressed(pilot, "x")
        assert app.screen is not box
        box.fill("too late")
        await pilot.pause()
        assert "too late" not in shown(app)
