"""The table under all lists: cells, columns, and rows that come, go and change places under a cursor."""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.app import App, ComposeResult

from gpumodels_tui.widgets.cells import bar, fitted, shortened, text, width_of
from gpumodels_tui.widgets.columns import GAP, Column, arrange
from gpumodels_tui.widgets.line_table import LineTable
from gpumodels_tui.widgets.quantities import calm_age, percent, short_dtype

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


WIDE = st.text(alphabet="aé名🚀e\u0301", max_size=40)


@given(WIDE, st.integers(0, 30))
def test_shortened_text_never_takes_more_columns_than_it_may(content: str, width: int) -> None:
    assert cell_len(shortened(content, width)) <= width


@given(st.lists(st.tuples(WIDE, st.sampled_from(["", "muted"])), max_size=4), st.integers(1, 30), st.booleans())
def test_fitted_cells_take_exactly_their_columns(cell: list[tuple[str, str]], width: int, right: bool) -> None:
    assert width_of(fitted(tuple(cell), width, right)) == width


def test_what_terminals_count_differently_is_left_out_of_cells() -> None:
    assert text("❤️ 👍🏽 1️⃣ 模型🚀") == (("❤ 👍 1\u20e3 模型🚀", ""),)


@given(st.floats(0, 2), st.integers(1, 80))
def test_bars_take_exactly_their_columns(share: float, width: int) -> None:
    assert width_of(bar(share, width)) == width


def test_a_bar_shows_something_for_anything_and_nothing_for_nothing() -> None:
    assert bar(0, 4) == (("────", "track"),)
    assert bar(0.0001, 4)[0] == ("╸", "bar")
    assert bar(1, 4) == (("━━━━", "bar"),)


def a_column(title: str, least: int, most: int = 0, importance: int = 0, eager: int = 0) -> Column[Row]:
    return Column(title, lambda row, _: text(row[0]), least=least, most=most, importance=importance, eager=eager)


def test_the_least_important_column_goes_first_and_the_others_take_its_room() -> None:
    columns = [a_column("a", 10, most=30, importance=9), a_column("b", 10, importance=1), a_column("c", 10, importance=5)]
    assert [place.column.title for place in arrange(columns, 40)] == ["a", "b", "c"]
    narrow = arrange(columns, 25)
    assert [(place.column.title, place.width) for place in narrow] == [("a", 14), ("c", 10)]
    assert [place.width for place in arrange(columns, 6)] == [6]


def test_an_eager_column_grows_before_the_others() -> None:
    columns = [a_column("a", 5, most=50), a_column("b", 5, most=20, eager=15)]
    assert [place.width for place in arrange(columns, 5 + GAP + 13)] == [5, 13]
    assert [place.width for place in arrange(columns, 5 + GAP + 15 + 6)] == [8, 18]
    assert [place.width for place in arrange(columns, 100)] == [50, 20]


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(0, 40), st.integers(0, 9)), max_size=8), st.integers(0, 150))
def test_columns_never_leave_the_width_they_have(shapes: list[tuple[int, int, int]], width: int) -> None:
    places = arrange([a_column(str(index), *shape) for index, shape in enumerate(shapes)], width)
    assert all(place.x + place.width <= max(width, 0) for place in places)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-5, "now"), (0, "now"), (9, "now"), (12, "10s"), (59.9, "50s"), (60, "1m"), (7300, "2h"), (200_000, "2d")],
)
def test_young_ages_step_by_ten_seconds(seconds: float, expected: str) -> None:
    assert calm_age(seconds) == expected


def test_shares_and_dtypes_are_written_short() -> None:
    assert [percent(share) for share in (0, 0.001, 0.07, 1)] == ["0%", "<1%", "7%", "100%"]
    assert [short_dtype(name) for name in ("bfloat16+", "float8_e4m3fn", "q4_k", "")] == ["bf16+", "fp8e4m3", "q4_k", ""]


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
