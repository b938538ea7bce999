"""Columns of a table: what each draws, how wide it becomes in a given width, and which give way when there is no room."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from msgspec import Struct

from gpumodels_tui.widgets.cells import Cell

RowT = TypeVar("RowT")

GAP: Final = 1
"""Blank terminal columns between two table columns."""


class Column(Struct, Generic[RowT], frozen=True):
    """One column, from its narrowest to its widest."""

    title: str
    draw: Callable[[RowT, int], Cell]
    """The row's cell, given the width that it will have."""
    least: int
    most: int = 0
    """0: never wider than `least`."""
    right: bool = False
    """Flush right: numbers."""
    importance: int = 0
    """Without enough room, the column of the lowest importance goes first."""
    eager: int = 0
    """Grows to this width before the others grow at all; further together with them."""
    short_title: str = ""
    """For when the title doesn't fit."""
    key: str = ""
    """What rows are sorted by under this column; empty where they can't be."""

    def heading(self, width: int, mark: str = "") -> str:
        """The title that fits, with a mark that always does."""
        room = width - len(mark)
        title = self.title if len(self.title) <= room else self.short_title or self.title
        return (title[:room] if mark else title) + mark


class Place(Struct, Generic[RowT], frozen=True):
    """A column where it is drawn."""

    column: Column[RowT]
    x: int
    width: int


def arrange(columns: Sequence[Column[RowT]], width: int, x: int = 0) -> tuple[Place[RowT], ...]:
    """Columns side by side from `x` on in `width`: the least important dropped until the rest fits, spare room shared out.

    Room is shared one terminal column at a time, so that each table column grows until it has its `most`.
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
    places: list[Place[RowT]] = []
    for column, column_width in zip(kept, widths, strict=True):
        places.append(Place(column, x, column_width))
        x += column_width + GAP
    return tuple(places)


def _least(columns: Sequence[Column[RowT]]) -> int:
    return sum(column.least for column in columns) + GAP * (len(columns) - 1)
