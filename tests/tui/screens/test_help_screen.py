"""The help: every key of the screen that it was asked on, and what its marks stand for."""

from __future__ import annotations

import pytest
from textual.binding import Binding

from apps import SMALL, app_showing, pressed
from gpumodels_tui.screens.help_screen import key_name
from gpumodels_tui.screens.layers import LayersScreen
from gpumodels_tui.screens.text_screen import TextScreen
from screen_text import shown
from views import a_full_view, a_view


@pytest.mark.slow
async def test_help_lists_the_keys_of_the_screen_it_was_asked_on() -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "question_mark")
        assert isinstance(app.screen, TextScreen)
        text = shown(app)
        assert "Up and Down scroll" in text
        for _ in range(4):
            await pressed(pilot, "pagedown")
            text += shown(app)
        for said in ("1-9", "Choose a device", "G", "First or last row", "Quit", "Open the model", "Optimizer state"):
            assert said in text
        await pressed(pilot, "escape", "enter", "question_mark")
        assert "Unfold or fold the layer" in shown(app)
        assert "Choose a device" not in shown(app)
        await pressed(pilot, "question_mark")
        assert isinstance(app.screen, LayersScreen)


async def test_every_key_that_has_a_meaning_is_in_the_help() -> None:
    app = app_showing(a_full_view(["a warning"]))
    async with app.run_test(size=(100, 70)) as pilot:  # tall, and too narrow for two columns: all in one
        await pilot.pause()
        meanings = {active.binding.tooltip for active in app.screen.active_bindings.values() if active.binding.id}
        await pressed(pilot, "question_mark")
        text = " ".join(shown(app).split())
        assert [meaning for meaning in meanings if meaning and meaning not in text] == []


def test_keys_are_named_as_they_stand_on_keyboards() -> None:
    app = app_showing(a_view())
    keys = {"pageup": "PgUp", "escape": "Esc", "shift+tab": "Shift-Tab", "ctrl+p": "Ctrl-P", "f6": "F6", "j": "j", "G": "G"}
    assert {key: key_name(app, Binding(key, "do", "Do")) for key in keys} == keys
    assert [key_name(app, Binding(key, "do", "Do")) for key in ("left", "less_than_sign", "question_mark")] == ["Left", "<", "?"]
    assert key_name(app, Binding("1", "device(1)", "Device", key_display="1-9")) == "1-9"
