"""The line of keys: closer together where there is little room, so that the last of them is there."""

from __future__ import annotations

from typing import ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Button

from gpumodels_tui.widgets.keys_line import COLUMNS_FOR_GAPS, KeysLine


class KeysApp(App[None]):
    """With two keys, of which one is dim at first, and two places for the focus."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("a", "one", "One"), Binding("b", "two", "Two")]
    AUTO_FOCUS = ""
    can_do_one = False

    def compose(self) -> ComposeResult:
        yield Button()
        yield Button()
        yield KeysLine(show_command_palette=False)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return None if action == "one" and not self.can_do_one else True


async def test_keys_stand_closer_together_on_a_narrow_screen() -> None:
    app = KeysApp()
    async with app.run_test(size=(COLUMNS_FOR_GAPS, 9)) as pilot:
        keys = app.query_one(KeysLine)
        seen: list[tuple[bool, int]] = []
        for columns in (COLUMNS_FOR_GAPS, COLUMNS_FOR_GAPS - 1, COLUMNS_FOR_GAPS):
            await pilot.resize_terminal(columns, 9)
            await pilot.pause()
            seen.append((keys.compact, keys.children[-1].region.right))
        apart, close, again = seen
        assert (apart[0], close[0]) == (False, True)
        assert close[1] < apart[1]
        assert again == apart


async def test_the_line_is_composed_anew_only_when_it_would_show_something_else() -> None:
    app = KeysApp()
    async with app.run_test(size=(COLUMNS_FOR_GAPS, 9)) as pilot:
        keys = app.query_one(KeysLine)
        await pilot.pause()
        first = list(keys.children)
        assert [key.has_class("-disabled") for key in first] == [True, False]
        await pilot.press("tab", "tab")
        await pilot.pause()
        assert list(keys.children) == first
        app.can_do_one = True
        app.refresh_bindings()
        await pilot.pause()
        assert [key.has_class("-disabled") for key in keys.children] == [False, False]
