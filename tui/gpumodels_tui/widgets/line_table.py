"""A table that draws again only the parts of lines that change, since people watch it over slow connections."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import ClassVar, Final, Generic

from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.strip import Strip

from gpumodels_tui.theme import HEADING
from gpumodels_tui.widgets.cells import fitted, text
from gpumodels_tui.widgets.columns import Column, PlacedColumn, RowT, arrange
from gpumodels_tui.widgets.kept_lines import KeptLines
from gpumodels_tui.widgets.lines import Emphasis, Line, difference, drawn
from gpumodels_tui.widgets.table_messages import CursorMoved, HeadingClicked, RowOpened

MARK: Final = "> "
DESCENDING: Final = "↓"
ASCENDING: Final = "↑"
WHEEL_LINES: Final = 3
NO_LINE: Final = Line()
STEPS: Final = "Previous or next row"
PAGES: Final = "One page up or down"
ENDS: Final = "First or last row"


class LineTable(KeptLines, Generic[RowT], can_focus=True):
    """Rows with keys, in columns. The cursor stays on its row while rows are added, removed and reordered.

    Only the visible lines are ever composed, so a large number of rows costs little.
    """

    ALLOW_SELECT = False

    DEFAULT_CSS = "LineTable { width: 1fr; height: 1fr; }"

    LEAD: ClassVar[int] = len(MARK)
    """Terminal columns at the left for the mark of the cursor's row."""
    TAIL: ClassVar[int] = 2
    """Terminal columns at the right for a gap and the scroll bar; with one, there is no bar."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False, id="table.up", tooltip=STEPS),
        Binding("down,j", "move(1)", "Down", show=False, id="table.down", tooltip=STEPS),
        Binding("pageup", "page(-1)", "Page up", show=False, id="table.page_up", tooltip=PAGES),
        Binding("pagedown", "page(1)", "Page down", show=False, id="table.page_down", tooltip=PAGES),
        Binding("home,g", "first", "First", show=False, id="table.first", tooltip=ENDS),
        Binding("end,G", "last", "Last", show=False, id="table.last", tooltip=ENDS),
    ]

    def __init__(
        self, columns: Sequence[Column[RowT]], *, headed: bool = True, cursor: bool = True, id: str | None = None
    ) -> None:
        """Args:
        columns: From left to right.
        headed: Whether there is a line of titles at the top.
        cursor: Whether there is a cursor; a table without one marks a chosen row instead (`choose`).
        """
        super().__init__(id=id)
        self._columns = tuple(columns)
        self._head_lines = 1 if headed else 0
        self._has_cursor = cursor
        self.can_focus = cursor
        self._rows: Sequence[RowT] = ()
        self._positions: dict[Hashable, int] = {}
        self._cursor = 0
        self._top = 0
        self._placed_columns: tuple[PlacedColumn[RowT], ...] = ()
        self._arranged_for: Size | None = None
        self._sorted: tuple[str, bool] | None = None
        self._is_lit = False
        self._is_marked = True
        self._lines: list[Line] = []
        self._drawn: list[RowT | None] = []
        """The row on each line."""
        self.lines_refreshed = 0
        """How many lines have been drawn again so far; it measures the cost of updates."""

    def key_of(self, row: RowT) -> Hashable:
        """A key that identifies the row while its contents change."""
        raise NotImplementedError

    @property
    def rows(self) -> Sequence[RowT]:
        """All rows from top to bottom."""
        return self._rows

    @property
    def columns(self) -> Sequence[Column[RowT]]:
        """All columns, including those that don't fit."""
        return self._columns

    @property
    def placed_columns(self) -> Sequence[PlacedColumn[RowT]]:
        """The columns that fit, with their positions."""
        return self._placed_columns

    def row_at(self, y: int) -> RowT | None:
        """The row on this line of the widget; None if there is none."""
        position = self._top + y - self._head_lines
        return self._rows[position] if y >= self._head_lines and 0 <= position < len(self._rows) else None

    @property
    def cursor_row(self) -> RowT | None:
        """The row under the cursor; None if there are no rows."""
        return self._rows[self._cursor] if self._cursor < len(self._rows) else None

    @property
    def cursor_key(self) -> Hashable | None:
        """The key of the row under the cursor."""
        row = self.cursor_row
        return None if row is None else self.key_of(row)

    @property
    def top_row(self) -> int:
        """The position of the first visible row."""
        return self._top

    @property
    def visible_rows(self) -> int:
        """How many rows fit below the heading."""
        return max(self.size.height - self._head_lines, 0)

    def show(self, rows: Sequence[RowT], cursor_key: Hashable | None = None) -> None:
        """Draw the differences. The cursor stays on its row and, if possible, on the same line of the screen.

        Args:
            rows: All rows, in order.
            cursor_key: Move the cursor to the row with this key instead.
        """
        before = self.cursor_key
        wanted = before if cursor_key is None else cursor_key
        on_screen = self._cursor - self._top
        in_view = 0 <= on_screen < max(self.visible_rows, 1)
        anchor = self._rows[self._top] if self._top < len(self._rows) else None
        self._rows = rows
        self._positions = {self.key_of(row): position for position, row in enumerate(rows)}
        last = max(len(rows) - 1, 0)
        self._cursor = self._positions.get(wanted, min(self._cursor, last))
        if self._top:
            if in_view:
                self._top = self._cursor - on_screen
            elif anchor is not None:
                self._top = self._positions.get(self.key_of(anchor), self._top)
        if in_view:
            self._bring_into_view()
        self._clamp_top()
        self.redraw(all_cells=False)
        if self._has_cursor and self.cursor_key != before:
            self.post_message(CursorMoved(self, self.cursor_key))

    def choose(self, key: Hashable) -> None:
        """Move the cursor, or the mark of the chosen row, to the row with this key, if it exists."""
        position = self._positions.get(key)
        if position is not None:
            self._move_to(position)

    def columns_for(self, width: int) -> Sequence[Column[RowT]]:
        """The columns of a table of this width."""
        return self._columns

    def rearrange(self) -> None:
        """Arrange the columns again; drawn at the next `show`."""
        self._arrange()

    def set_columns(self, columns: Sequence[Column[RowT]]) -> None:
        """Use other columns; drawn at the next `show`."""
        if tuple(columns) != self._columns:
            self._columns = tuple(columns)
            self._arrange()

    def mark_sorted(self, column: str, descending: bool) -> None:
        """Mark the column that the rows are sorted by; drawn at the next `show`."""
        self._sorted = (column, descending)

    def mark_chosen(self, is_marked: bool) -> None:
        """For a table without a cursor: whether any row is chosen; drawn at the next `show`."""
        self._is_marked = is_marked

    def light(self, is_lit: bool) -> None:
        """Draw the cursor as if the table had the focus, for a widget that handles the table's keys."""
        self._is_lit = is_lit
        self.redraw()

    def is_match(self, row: RowT) -> bool:
        """Whether `go_to_match` stops at this row."""
        return True

    def go_to_match(self, step: int) -> None:
        """Move the cursor to the next matching row in this direction, wrapping around at the ends."""
        count = len(self._rows)
        for distance in range(1, count + 1):
            position = (self._cursor + step * distance) % count
            if self.is_match(self._rows[position]):
                self._move_to(position)
                return

    def scroll_rows(self, rows: int) -> None:
        """Scroll by this many rows; the cursor stays on its row."""
        self._scroll_to_row(self._top + rows)

    def draws_same(self, before: RowT, after: RowT) -> bool:
        """Whether the new row is certain to be drawn like the old one, so that it need not be composed."""
        return False

    def redraw(self, *, all_cells: bool = True) -> None:
        """Compose the visible lines, and refresh the parts that differ from what was drawn.

        Args:
            all_cells: Whether to compose rows that haven't changed too, since their cells may depend on the time.
        """
        self.repaint(self._compose_lines(all_cells))

    def layout_key(self) -> object:
        """The columns."""
        if not self._fits:
            self._fit()  # drawn before `on_resize`: otherwise lines would be blank now, and drawn again immediately
        return self._placed_columns

    def source_of(self, y: int) -> Line:
        """The line."""
        return self._lines[y] if y < len(self._lines) else NO_LINE

    def render_line(self, y: int) -> Strip:
        """Draw one line."""
        return self.on_background(drawn(self.source_of(y), self._placed_columns, self.size.width, self.LEAD, self.TAIL))

    def on_resize(self) -> None:
        """Fit the columns to the new width."""
        if not self._fits:
            self._fit()
            self.refresh()

    def watch_has_focus(self, has_focus: bool) -> None:
        """Draw the cursor according to the focus."""
        super().watch_has_focus(has_focus)
        self.redraw()

    def on_click(self, event: events.Click) -> None:
        """Move the cursor to the row; a double click opens it."""
        if self._is_on_bar(event.x):
            return
        if event.y < self._head_lines:
            column = next(
                (placed.column.key for placed in self._placed_columns if placed.x <= event.x <= placed.x + placed.width), ""
            )
            if column:
                self.post_message(HeadingClicked(self, column))
            return
        position = self._top + event.y - self._head_lines
        if not 0 <= position < len(self._rows):
            return
        if self._has_cursor:
            self._move_to(position)
            if event.chain == 2:
                self.action_open()
        else:
            self.post_message(RowOpened(self, self.key_of(self._rows[position])))

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Start dragging the scroll bar."""
        if self._is_on_bar(event.x):
            self.capture_mouse()
            self._drag_to(event.y)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Scroll while the scroll bar is dragged."""
        if self.app.mouse_captured is self:
            self._drag_to(event.y)

    def on_mouse_up(self, event: events.MouseUp) -> None:
        """Stop dragging the scroll bar."""
        self.release_mouse()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Scroll the rows; the cursor stays on its row."""
        event.stop()
        if self._has_cursor:
            self.scroll_rows(WHEEL_LINES)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Scroll the rows; the cursor stays on its row."""
        event.stop()
        if self._has_cursor:
            self.scroll_rows(-WHEEL_LINES)

    def action_move(self, rows: int) -> None:
        """Move the cursor by this many rows."""
        self._move_to(self._cursor + rows)

    def action_page(self, pages: int) -> None:
        """Move the cursor by this many pages."""
        self._move_to(self._cursor + pages * max(self.visible_rows - 1, 1))

    def action_first(self) -> None:
        """Move the cursor to the first row."""
        self._move_to(0)

    def action_last(self) -> None:
        """Move the cursor to the last row."""
        self._move_to(len(self._rows) - 1)

    def action_open(self) -> None:
        """Ask the screen to open the row under the cursor."""
        if self.cursor_row is not None:
            self.post_message(RowOpened(self, self.cursor_key))

    def _move_to(self, position: int) -> None:
        before = self._cursor
        self._cursor = min(max(position, 0), max(len(self._rows) - 1, 0))
        self._bring_into_view()
        self.redraw()
        if self._has_cursor and self._cursor != before:
            self.post_message(CursorMoved(self, self.cursor_key))

    def _is_on_bar(self, x: int) -> bool:
        return self.TAIL > 1 and x >= self.size.width - 1 and len(self._rows) > self.visible_rows > 1

    def _drag_to(self, y: int) -> None:
        # The table may become too small for a scroll bar while the bar is dragged, and still receive the mouse's moves.
        share = min(max(y - self._head_lines, 0) / max(self.visible_rows - 1, 1), 1)
        self._scroll_to_row(round(share * (len(self._rows) - self.visible_rows)))

    def _scroll_to_row(self, top: int) -> None:
        self._top = top
        self._clamp_top()
        self.redraw()

    def _bring_into_view(self) -> None:
        self._top = min(max(self._top, self._cursor - max(self.visible_rows - 1, 0)), self._cursor)

    def _clamp_top(self) -> None:
        self._top = min(max(self._top, 0), max(len(self._rows) - self.visible_rows, 0))

    def _compose_lines(self, all_cells: bool = True) -> list[Region]:
        """Compose the visible lines, and return the regions where they differ from before."""
        if len(self._lines) != self.size.height:
            self._lines = [NO_LINE] * self.size.height
            self._drawn = []
        known, self._drawn = [] if all_cells else self._drawn, [None] * len(self._lines)
        regions: list[Region] = []
        thumb = self._thumb()
        for y, before in enumerate(self._lines):
            line = self._line_at(y, known[y] if y < len(known) else None, y in thumb)
            if line == before:
                continue
            self._lines[y] = line
            self.lines_refreshed += 1
            x, width = difference(before, line, self._placed_columns) or (0, self.size.width)
            regions.append(Region(x, y, width, 1))
        return regions

    @property
    def _fits(self) -> bool:
        """Whether the columns and the lines are those of the present size. Rows that came while it was hidden have no lines."""
        return self._arranged_for == self.size and len(self._lines) == self.size.height

    def _fit(self) -> None:
        self._arrange()
        self._bring_into_view()
        self._clamp_top()
        self._compose_lines()

    def _arrange(self) -> None:
        self._arranged_for = self.size
        self._drawn = []
        self._placed_columns = arrange(
            self.columns_for(self.size.width), max(self.size.width - self.LEAD - self.TAIL, 0), self.LEAD
        )

    def _line_at(self, y: int, before: RowT | None, thumb: bool) -> Line:
        if y < self._head_lines:
            titles = tuple(
                fitted(text(self._title(placed), HEADING), placed.width, placed.column.right) for placed in self._placed_columns
            )
            return Line(Emphasis.HEADING, cells=titles)
        position = self._top + y - self._head_lines
        if position >= len(self._rows):
            return Line(thumb=thumb)
        row = self._rows[position]
        self._drawn[y] = row
        if before is not None and self.draws_same(before, row):
            cells = self._lines[y].cells
        else:
            cells = tuple(
                fitted(placed.column.draw(row, placed.width), placed.width, placed.column.right)
                for placed in self._placed_columns
            )
        if position != self._cursor or not self._is_marked:
            return Line(cells=cells, thumb=thumb)
        lit = self._is_lit or (self._has_cursor and self.has_focus)
        return Line(Emphasis.CURSOR if lit else Emphasis.CHOSEN, MARK[: self.LEAD], cells, thumb)

    def _title(self, placed: PlacedColumn[RowT]) -> str:
        if self._sorted is None or placed.column.key != self._sorted[0]:
            return placed.column.heading(placed.width)
        return placed.column.heading(placed.width, DESCENDING if self._sorted[1] else ASCENDING)

    def _thumb(self) -> range:
        """The lines of the scroll bar's handle."""
        rows, visible = len(self._rows), self.visible_rows
        if rows <= visible or visible == 0:
            return range(0)
        length = max(visible * visible // rows, 1)
        start = self._head_lines + round(self._top / (rows - visible) * (visible - length))
        return range(start, start + length)
