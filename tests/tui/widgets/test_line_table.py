"""The table under all lists: rows that come, go and change places under a cursor."""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence

import pytest
from textual.app import App, ComposeResult

from gpumodels_tui.widgets.cells import text
from gpumodels_tui.widgets.columns import Column
from gpumodels_tui.widgets.line_table import LineTable

Row = tuple[str, int]


class Words(LineTable[Row]):
    """A key and a number."""

    def __init__(self) -> None:
        super().__init__(
            [
                Column("word", lambda row, _: text(row[0]), least=10, most=30),
                Column("size", lambda row, _: text(str(row[1])), least=6, right=True),
            ]
        )

    def key_of(self, row: Row) -> Hashable:
        return row[0]


class TableApp(App[None]):
    def __init__(self, rows: Sequence[Row]) -> None:
        super().__init__()
        self.rows = rows
        self.table = Words()

    def compose(self) -> ComposeResult:
        yield self.table

    def on_mount(self) -> None:
        self.table.show(self.rows)


def cursor(app: TableApp) -> Hashable | None:
    return app.table.cursor_key


def rows(*words: str) -> list[Row]:
    return [(word, len(word)) for word in words]


def numbered(count: int) -> list[Row]:
    return [(f"row-{number:03d}", number) for number in range(count)]


async def test_equal_rows_refresh_no_line_and_one_changed_row_refreshes_one() -> None:
    app = TableApp(numbered(10))
    async with app.run_test(size=(40, 12)) as pilot:
        await pilot.pause()
        before = app.table.lines_refreshed
        app.table.show(numbered(10))
        assert app.table.lines_refreshed == before
        changed = numbered(10)
        changed[4] = ("row-004", 99)
        app.table.show(changed)
        assert app.table.lines_refreshed == before + 1


async def test_rows_out_of_view_cost_nothing() -> None:
    app = TableApp(numbered(100))
    async with app.run_test(size=(40, 12)) as pilot:
        await pilot.pause()
        before = app.table.lines_refreshed
        changed = numbered(100)
        changed[90] = ("row-090", 1)
        app.table.show(changed)
        assert app.table.lines_refreshed == before


async def test_a_row_inserted_above_moves_the_view_not_the_cursors_place_on_it() -> None:
    app = TableApp(numbered(100))
    async with app.run_test(size=(40, 12)) as pilot:
        await pilot.pause()
        await pilot.press("end")
        for _ in range(20):
            app.table.action_move(-1)
        on_screen = 79 - app.table.top_row
        app.table.show([("new", 0), *numbered(100)])
        assert app.table.cursor_key == "row-079"
        assert 80 - app.table.top_row == on_screen


async def test_a_view_scrolled_by_the_wheel_stays_on_its_rows_when_rows_come_above() -> None:
    app = TableApp(numbered(100))
    async with app.run_test(size=(40, 12)) as pilot:
        await pilot.pause()
        for _ in range(10):
            app.table.scroll_rows(3)
        assert app.table.rows[app.table.top_row][0] == "row-030"
        app.table.show([("new", 0), ("newer", 0), *numbered(100)])
        assert app.table.rows[app.table.top_row][0] == "row-030"
        assert app.table.cursor_key == "row-000"


async def test_when_the_cursors_row_goes_the_cursor_takes_the_next_one() -> None:
    app = TableApp(rows("a", "b", "c"))
    async with app.run_test(size=(40, 12)) as pilot:
        await pilot.press("down")
        app.table.show(rows("a", "c"))
        assert cursor(app) == "c"
        app.table.show(rows("a"))
        assert cursor(app) == "a"
        app.table.show([])
        assert cursor(app) is None
        await pilot.press("down", "up", "end", "home", "pagedown", "enter")
        app.table.show(rows("x"))
        assert cursor(app) == "x"


async def test_the_cursor_survives_a_hundred_updates_with_rows_coming_going_and_reordering() -> None:
    chance = random.Random(1)
    app = TableApp(numbered(60))
    async with app.run_test(size=(40, 12)) as pilot:
        await pilot.pause()
        app.table.choose("row-030")
        for _ in range(100):
            others = [row for row in numbered(60) if row[0] != "row-030" and chance.random() > 0.3]
            shuffled = [*others, ("row-030", chance.randrange(1000))]
            chance.shuffle(shuffled)
            app.table.show(shuffled)
            position = [row[0] for row in shuffled].index("row-030")
            assert app.table.cursor_key == "row-030"
            assert app.table.top_row <= position < app.table.top_row + app.table.visible_rows


async def test_a_smaller_terminal_keeps_the_cursor_in_view() -> None:
    app = TableApp(numbered(40))
    async with app.run_test(size=(40, 42)) as pilot:
        await pilot.press("end")
        await pilot.resize_terminal(30, 10)
        await pilot.pause()
        assert app.table.top_row <= 39 < app.table.top_row + app.table.visible_rows


async def test_rows_with_the_same_key_are_harmless() -> None:
    app = TableApp(rows("a", "a", "a", "b"))
    async with app.run_test(size=(40, 12)) as pilot:
        await pilot.press("down", "down", "down")
        app.table.show(rows("b", "a", "a"))
        assert app.table.cursor_key == "b"


async def test_the_cursor_is_lit_while_the_keys_are_for_its_table() -> None:
    app = TableApp(rows("a", "b"))
    async with app.run_test(size=(40, 12)) as pilot:
        await pilot.pause()

        def is_lit() -> bool:
            return any(segment.style is not None and segment.style.reverse for segment in app.table.render_line(1))

        app.table.focus()
        await pilot.pause()
        assert is_lit()
        app.set_focus(None)
        await pilot.pause()
        assert not is_lit()
        app.table.focus()
        await pilot.pause()
        assert is_lit()


async def test_the_scroll_bar_follows_the_hand_that_holds_it() -> None:
    app = TableApp(numbered(100))
    async with app.run_test(size=(40, 12)) as pilot:
        await pilot.pause()
        bar = app.table.size.width - 1
        await pilot.mouse_down(Words, offset=(bar, 11))
        assert app.table.top_row == 100 - app.table.visible_rows
        await pilot.hover(Words, offset=(bar - 9, 1))  # the hand may leave it sideways
        assert app.table.top_row == 0
        await pilot.hover(Words, offset=(bar, 6))
        assert 40 <= app.table.top_row <= 50
        await pilot.mouse_up(Words, offset=(bar, 6))
        held = app.table.top_row
        await pilot.hover(Words, offset=(bar, 1))
        assert app.table.top_row == held
        assert app.table.cursor_key == "row-000"


@pytest.mark.parametrize("height", [0, 1, 2])
async def test_a_table_that_shrinks_while_its_scroll_bar_is_held_stays_whole(height: int) -> None:
    app = TableApp(numbered(100))
    async with app.run_test(size=(40, 12)) as pilot:
        await pilot.pause()
        bar = app.table.size.width - 1
        await pilot.mouse_down(Words, offset=(bar, 6))
        app.table.styles.height = height + app.table._head_lines
        await pilot.pause()
        assert app.table.visible_rows == height
        for y in (0, 5, 11):
            app.table._drag_to(y)
            assert 0 <= app.table.top_row <= 100
