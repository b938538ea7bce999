"""What a table tells: whose it was can be asked for by `on`."""

from __future__ import annotations

from collections.abc import Hashable

import pytest
from textual import on
from textual.app import App, ComposeResult
from textual.widget import Widget

from gpumodels_tui.widgets.table_messages import CursorMoved, HeadingClicked, RowOpened, TableMessage


class TwoTablesApp(App[None]):
    """Listens to the left of two."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[Hashable] = []

    def compose(self) -> ComposeResult:
        yield Widget(id="left")
        yield Widget(id="right")

    @on(RowOpened, "#left")
    def _opened(self, event: RowOpened) -> None:
        self.opened.append(event.key)


async def test_a_screen_with_two_tables_hears_one_of_them_alone() -> None:
    app = TwoTablesApp()
    async with app.run_test(size=(20, 5)) as pilot:
        for id in ("right", "left"):
            table = app.query_one(f"#{id}")
            table.post_message(RowOpened(table, f"a row on the {id}"))
        await pilot.pause()
        assert app.opened == ["a row on the left"]


@pytest.mark.parametrize("kind", [CursorMoved, RowOpened, HeadingClicked])
def test_each_says_which_table_it_is_from(kind: type[CursorMoved | RowOpened | HeadingClicked]) -> None:
    table = Widget()
    message: TableMessage = kind(table, "name")
    assert message.control is table


def test_the_keys_of_a_row_come_as_they_are() -> None:
    key = ("gpu:0", "vae")
    assert CursorMoved(Widget(), key).key is key
    assert CursorMoved(Widget(), None).key is None  # the last row went
    assert HeadingClicked(Widget(), "size").column == "size"
