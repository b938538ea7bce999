"""Lines of a table: as few pieces as can be, and no more of a line sent again than differs."""

from __future__ import annotations

from rich.segment import Segment
from textual.strip import Strip

from gpumodels_shared.records import replace
from gpumodels_tui.theme import ACCENT, CHOSEN, CURSOR, MUTED, PLAIN, STYLES
from gpumodels_tui.widgets.cells import Cell, fitted, text
from gpumodels_tui.widgets.columns import Column, PlacedColumn
from gpumodels_tui.widgets.lines import THUMB, Emphasis, Line, difference, drawn, segments_of

COLUMN: Column[str] = Column("", lambda row, _: text(row), least=4)
PLACES = (PlacedColumn(COLUMN, 2, 4), PlacedColumn(COLUMN, 7, 4), PlacedColumn(COLUMN, 12, 4))


def a_line(*cells: str, emphasis: Emphasis = Emphasis.NONE, mark: str = "", thumb: bool = False) -> Line:
    return Line(emphasis, mark, tuple(fitted(text(cell), 4) for cell in cells), thumb)


def strip_of(line: Line, width: int = 20, tail: int = 2) -> Strip:
    return drawn(line, PLACES, width, lead=2, tail=tail)


def test_what_differs_reaches_from_the_first_changed_cell_to_the_last() -> None:
    before = a_line("a", "b", "c")
    assert difference(before, a_line("a", "B", "c"), PLACES) == (7, 4)
    assert difference(before, a_line("A", "b", "C"), PLACES) == (2, 14)


def test_a_line_that_is_emphasised_otherwise_or_has_other_columns_is_drawn_whole() -> None:
    before = a_line("a", "b", "c")
    assert difference(before, replace(before, emphasis=Emphasis.CURSOR), PLACES) is None
    assert difference(before, replace(before, mark="> "), PLACES) is None
    assert difference(before, replace(before, thumb=True), PLACES) is None
    assert difference(before, a_line("a", "b"), PLACES) is None
    assert difference(before, before, PLACES) is None


def test_mark_cells_and_scroll_bar_are_where_they_belong() -> None:
    assert strip_of(a_line("ab", "cdef", "g", mark="> ", thumb=True)).text == f"> ab   cdef g      {THUMB}"
    assert strip_of(a_line("ab", "cdef", "g")).text == "  ab   cdef g       "


def test_a_table_with_a_tail_of_one_column_has_no_scroll_bar() -> None:
    assert THUMB not in strip_of(a_line("a", thumb=True), tail=1).text


def test_a_line_is_cut_to_its_width() -> None:
    assert strip_of(a_line("ab", "cdef", "g"), width=9).text == "  ab   cd"


def test_the_line_under_the_cursor_is_drawn_in_one_style() -> None:
    cells: tuple[Cell, ...] = (text("a", ACCENT), text("b", MUTED), text("c"))
    *line, bar = strip_of(Line(Emphasis.CURSOR, "> ", cells))
    assert [segment.style for segment in line] == [CURSOR]
    assert bar.text == " "
    chosen = strip_of(Line(Emphasis.CHOSEN, "> ", cells))
    assert all(segment.style is not None and segment.style.bold for segment in list(chosen)[:-1])
    assert CHOSEN.bold


def test_blanks_go_with_what_stands_before_them_whatever_their_style() -> None:
    assert segments_of((("a", ACCENT), ("  ", PLAIN), ("b", ACCENT), ("c", MUTED))) == [
        Segment("a  b", STYLES[ACCENT]),
        Segment("c", STYLES[MUTED]),
    ]
    assert segments_of(()) == []
