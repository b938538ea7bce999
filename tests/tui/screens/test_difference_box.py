"""The box that says what differs since before an event."""

from __future__ import annotations

import pytest

from apps import SMALL, app_showing, pressed, until_shown
from gpumodels_tui.comparing.documents import Document
from gpumodels_tui.moments import UnknownMomentError, document_of
from gpumodels_tui.screens.difference_box import DifferenceBox
from screen_text import shown
from snapshots import GIB, NOON_NS, a_feed, a_model, a_snapshot, some_hardware
from views import a_full_view

BEFORE = document_of(a_feed(a_snapshot(a_model("kept", GIB))), some_hardware(), NOON_NS, "host")
AFTER = document_of(a_feed(a_snapshot(a_model("kept", GIB), a_model("new-one", GIB))), some_hardware(), NOON_NS + 10**9, "host")


async def test_it_shows_the_difference_and_y_copies_it_as_markdown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMUX", "/tmp/tmux,1,0")
    app = app_showing(a_full_view())
    async with app.run_test(size=SMALL) as pilot:
        app.push_screen(DifferenceBox(lambda: (BEFORE, AFTER)))
        await until_shown(pilot, app, "new-one")
        assert "kept" not in shown(app)
        await pressed(pilot, "y")
        assert app.clipboard.startswith("From ")
        assert "| came | new-one |" in app.clipboard
        await until_shown(pilot, app, "as Markdown, if it takes it")
        assert "set-clipboard on" in " ".join(shown(app).replace("│", " ").split())
        await pressed(pilot, "d")
        assert "new-one" not in shown(app)


async def test_nothing_to_compare_is_said_and_not_copied() -> None:
    def read() -> tuple[Document, Document]:
        raise UnknownMomentError("nothing was seen yet")

    app = app_showing(a_full_view())
    async with app.run_test(size=SMALL) as pilot:
        app.push_screen(DifferenceBox(read))
        await until_shown(pilot, app, "There is nothing to compare: nothing was seen yet.")
        await pressed(pilot, "y")
        assert app.clipboard == ""
