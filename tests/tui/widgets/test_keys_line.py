"""The line of keys: closer together where there is little room, so that the last of them is there."""

from __future__ import annotations

from typing import ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType

from gpumodels_tui.widgets.keys_line import COLUMNS_FOR_GAPS, KeysLine


class KeysApp(App[None]):
    """With two keys."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("a", "one", "One"), Binding("b", "two", "Two")]

    def compose(self) -> ComposeResult:
        yield KeysLine(show_command_palette=False)


async def test_keys_stand_closer_together_on_a_narrow_screen() -> None:
    app = KeysApp()
    async with app.run_test(size=(COLUMNS_FOR_GAPS, 5)) as pilot:
        keys = app.query_one(KeysLine)
        seen: list[tuple[bool, int]] = []
        for columns in (COLUMNS_FOR_GAPS, COLUMNS_FOR_GAPS - 1, COLUMNS_FOR_GAPS):
            await pilot.resize_terminal(columns, 5)
            await pilot.pause()
            seen.append((keys.compact, keys.children[-1].region.right))
        apart, close, again = seen
        assert (apart[0], close[0]) == (False, True)
        assert close[1] < apart[1]
        assert again == apart
