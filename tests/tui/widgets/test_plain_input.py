"""A line to type in: whatever is pasted, only what draws itself comes in."""

from __future__ import annotations

from textual.app import App, ComposeResult
from textual.events import Paste

from gpumodels_tui.widgets.plain_input import PlainInput


class InputApp(App[None]):
    def compose(self) -> ComposeResult:
        yield PlainInput("words")


async def test_what_steers_a_terminal_or_hides_is_left_out_of_what_is_typed_and_pasted() -> None:
    app = InputApp()
    async with app.run_test(size=(40, 3)) as pilot:
        line = app.query_one(PlainInput)
        line.focus()
        await pilot.press("v", "a", "e", "space")
        line.post_message(Paste("\x1b[31m模型\u202e\x07\u200bé"))
        await pilot.pause()
        assert line.value == "vae [31m模型é"
        line.replace("X\u2066Y", 0, 3)
        assert line.value == "XY [31m模型é"
        assert not line.cursor_blink
