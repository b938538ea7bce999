"""The columns of a table: how each draws its cells, how wide it may be, and which are dropped if there is no room."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from gpumodels_shared.records import Record
from gpumodels_tui.widgets.cells import Cell

RowT = TypeVar("RowT")

GAP: Final = 1
"""Blank terminal columns between two table columns."""


class Column(Record, Generic[RowT]):
    """One column of a table."""

    title: str
    draw: Callable[[RowT, int], Cell]
    """Returns the row's cell, given the width that it will have."""
    least: int
    """The minimum width."""
    most: int = 0
    """The maximum width; 0 for the same as `least`."""
    right: bool = False
    """Whether cells are aligned to the right, as numbers are."""
    importance: int = 0
    """If there isn't enough room, the column with the lowest importance is dropped first."""
    eager: int = 0
    """The column grows to this width before any others grow, and further together with them."""
    short_title: str = ""
    """Used if the title doesn't fit."""
    key: str = ""
    """The sort key for this column; empty if rows can't be sorted by it."""

    def heading(self, width: int, mark: str = "") -> str:
        """The longest title that fits together with the mark."""
        room = width - len(mark)
        title = self.title if len(self.title) <= room else self.short_title or self.title
        return (title[:room] if mark else title) + mark


class PlacedColumn(Record, Generic[RowT]):
    """A column with its position and width."""

    column: Column[RowT]
    x: int
    width: int


def arrange(columns: Sequence[Column[RowT]], width: int, x: int = 0) -> tuple[PlacedColumn[RowT], ...]:
    """Arrange columns side by side in `width`, starting at `x`: drop the least important until the rest fits, then widen them.

    Spare room is distributed one terminal column at a time, until each table column has its `most`.
    """
    kept = list(columns)
    while len(kept) > 1 and _least(kept) > width:
        kept.remove(min(kept, key=lambda column: column.importance))
    if not kept:
        return ()
    widths = [column.least for column in kept]
    spare = width - _least(kept)
    if spare < 0:
        widths[0] = max(width, 0)
    for limits in ([column.eager for column in kept], [column.most for column in kept]):
        while spare > 0 and (growing := [position for position, limit in enumerate(limits) if widths[position] < limit]):
            for position in growing[:spare]:
                widths[position] += 1
            spare -= len(growing[:spare])
    placed_columns: list[PlacedColumn[RowT]] = []
    for column, column_width in zip(kept, widths, strict=True):
        placed_columns.append(PlacedColumn(column, x, column_width))
        x += column_width + GAP
    return tuple(placed_columns)


def _least(columns: Sequence[Column[RowT]]) -> int:
    return sum(column.least for column in columns) + GAP * (len(columns) - 1)
