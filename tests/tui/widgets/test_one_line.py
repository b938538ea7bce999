"""One line of text that is drawn again only when it says something else."""

from __future__ import annotations

import pytest
from rich.text import Text
from textual.app import App, ComposeResult
from textual.widget import Widget

from gpumodels_tui.widgets.one_line import OneLine, appear


class LineApp(App[None]):
    def compose(self) -> ComposeResult:
        yield OneLine()


async def test_the_same_line_is_said_again_for_nothing_and_another_moves_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    app = LineApp()
    async with app.run_test(size=(40, 3)):
        line = app.query_one(OneLine)
        refreshed: list[bool] = []
        monkeypatch.setattr(line, "refresh", lambda *regions, layout=False, **more: refreshed.append(layout))
        line.say(Text("3 models"))
        line.say(Text("3 models"))
        assert refreshed == [False]
        line.say(Text("4 models"))
        assert refreshed == [False, False]
        assert line.content == Text("4 models")


def test_a_widget_that_appears_again_is_laid_out_as_its_own_styles_say() -> None:
    widget = Widget()
    appear(widget, False)
    hidden = widget.display
    appear(widget, True)
    assert (hidden, widget.display) == (False, True)
    assert not widget.styles.inline.has_rule("display")
