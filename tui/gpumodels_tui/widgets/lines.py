"""Lines of a table: their contents, how they are drawn, and where two lines differ."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final, TypeVar

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from gpumodels_shared.records import Record
from gpumodels_tui.theme import CHOSEN, CURSOR, MUTED, STYLES
from gpumodels_tui.widgets.cells import Cell
from gpumodels_tui.widgets.columns import PlacedColumn

RowT = TypeVar("RowT")

THUMB: Final = "▐"


class Emphasis(Enum):
    """The kinds of lines that are drawn differently."""

    NONE = 0
    HEADING = 1
    CURSOR = 2
    CHOSEN = 3


class Line(Record):
    """The contents of one line of the widget."""

    emphasis: Emphasis = Emphasis.NONE
    mark: str = ""
    cells: tuple[Cell, ...] = ()
    thumb: bool = False
    """Whether the scroll bar's handle is on this line."""


def difference(before: Line, after: Line, placed_columns: Sequence[PlacedColumn[RowT]]) -> tuple[int, int] | None:
    """The range from the first different cell to the last, as x and width; None if the entire line differs.

    It is one range for all differences, since for each range the line is sent to the terminal from the widget's left edge on.
    """
    if (before.emphasis, before.mark, before.thumb) != (after.emphasis, after.mark, after.thumb):
        return None
    if not len(before.cells) == len(after.cells) == len(placed_columns):
        return None
    changed = [placed for placed, old, new in zip(placed_columns, before.cells, after.cells, strict=True) if old != new]
    if not changed:
        return None
    return changed[0].x, changed[-1].x + changed[-1].width - changed[0].x


def drawn(line: Line, placed_columns: Sequence[PlacedColumn[RowT]], width: int, lead: int, tail: int) -> Strip:
    """Draw the line in `width` terminal columns.

    Args:
        line: The line's contents.
        places: The columns of its cells.
        width: The width of the widget.
        lead: Columns at the left for the mark.
        tail: Columns at the right for a gap and, if there are two or more, a scroll bar.
    """
    pieces: list[tuple[str, str]] = [(line.mark.ljust(lead), "")]
    x = lead
    for placed, cell in zip(placed_columns, line.cells, strict=False):
        pieces.append((" " * (placed.x - x), ""))
        pieces.extend(cell)
        x = placed.x + placed.width
    pieces.append((" " * (width - min(tail, 1) - x), ""))
    base = {Emphasis.CURSOR: CURSOR, Emphasis.CHOSEN: CHOSEN}.get(line.emphasis)
    segments = _segments(pieces, base)
    if tail:
        segments.append(Segment(THUMB if line.thumb and tail > 1 else " ", STYLES[MUTED]))
    return Strip(segments).crop(0, width)


def segments_of(cell: Cell) -> list[Segment]:
    """The segments of a single cell."""
    return _segments(cell, None)


def _segments(pieces: Sequence[tuple[str, str]], base: Style | None) -> list[Segment]:
    """Join pieces of the same style into one segment; blanks are joined to the piece before them, whatever their style."""
    joined: list[tuple[str, Style]] = []
    for content, role in pieces:
        style = _style(role, base)
        if joined and (joined[-1][1] == style or content.isspace()):
            joined[-1] = (joined[-1][0] + content, joined[-1][1])
        elif content:
            joined.append((content, style))
    return [Segment(content, style) for content, style in joined]


def _style(role: str, base: Style | None) -> Style:
    """A role's style. The cursor's line has a single style, so that it stands out and needs only one escape sequence."""
    if base is CURSOR:
        return CURSOR
    return STYLES[role] if base is None else STYLES[role] + base
