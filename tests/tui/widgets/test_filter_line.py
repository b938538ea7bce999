"""The line in which one types: it tells of every change, and of how typing ended."""

from __future__ import annotations

from textual import on
from textual.app import App, ComposeResult

from apps import pressed
from gpumodels_tui.widgets.filter_line import FilterLine, WordsInput
from gpumodels_tui.widgets.filter_words import TypingLeft, WordsTyped


class FilterApp(App[None]):
    """Writes down what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str | bool] = []

    def compose(self) -> ComposeResult:
        yield FilterLine()

    @on(WordsTyped)
    def _typed(self, event: WordsTyped) -> None:
        self.told.append(event.words)

    @on(TypingLeft)
    def _left(self, event: TypingLeft) -> None:
        self.told.append(event.keep)


async def test_each_letter_is_told_and_the_keys_that_lead_away_keep_the_words() -> None:
    app = FilterApp()
    async with app.run_test(size=(40, 5)) as pilot:
        line = app.query_one(FilterLine)
        line.open()
        assert app.focused is app.query_one(WordsInput)
        await pressed(pilot, "v", "a", "enter", "down", "tab", "shift+tab", "escape")
        assert app.told == ["v", "va", True, True, True, True, False]


async def test_a_line_that_is_closed_is_gone_and_keeps_its_words_only_if_asked_to() -> None:
    app = FilterApp()
    async with app.run_test(size=(40, 5)) as pilot:
        line, typed = app.query_one(FilterLine), app.query_one(WordsInput)
        line.open()
        await pressed(pilot, "v", "a")
        line.close(keep=True)
        assert (line.display, typed.value) == (False, "va")
        line.open()
        assert line.display
        line.close(keep=False)
        await pilot.pause()
        assert (line.display, typed.value) == (False, "")
        assert app.told == ["v", "va", ""]
