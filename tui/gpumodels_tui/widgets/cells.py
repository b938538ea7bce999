"""Cells of a table: text in roles, fitted to a number of terminal columns. Wide characters count as two."""

from __future__ import annotations

from typing import Final

from rich.cells import cell_len, set_cell_size

from gpumodels_tui.theme import BAR, PLAIN, TRACK

Cell = tuple[tuple[str, str], ...]
"""Pieces of text, each with its role; neighbours of one role are one piece, so that they are one write."""

BLANK: Final[Cell] = ()
ELLIPSIS: Final = "…"
UNSTEADY: Final = dict.fromkeys([0xFE0E, 0xFE0F, *range(0x1F3FB, 0x1F400)])
"""Variation selectors, which make a heart a red one, two columns wide, where the terminal knows of it; and skin tones, which are
a patch of two columns of their own where it doesn't. In a table, columns that line up are worth more than they."""
_FULL: Final = "━"
_HALF: Final = "╸"
_TRACK: Final = "─"


def text(content: str, role: str = PLAIN) -> Cell:
    """One piece; without what takes a column on one terminal and none on another."""
    if not content.isascii():
        content = content.translate(UNSTEADY)
    return ((content, role),) if content else BLANK


def width_of(cell: Cell) -> int:
    """Terminal columns that it takes."""
    return sum(cell_len(content) for content, _ in cell)


def shortened(content: str, width: int) -> str:
    """The text in at most `width` columns; an ellipsis stands for what was cut."""
    # A character takes one column or two (or, combining, none): far more of them than columns need not be measured.
    if len(content) <= width * 8 and cell_len(content) <= width:
        return content
    if width <= 0:
        return ""
    return set_cell_size(content[: width * 8], width - 1).rstrip() + ELLIPSIS


def fitted(cell: Cell, width: int, right: bool = False) -> Cell:
    """The cell in exactly `width` columns: cut with an ellipsis, or padded on the side that `right` says."""
    pieces: list[tuple[str, str]] = []
    room = width
    for content, role in cell:
        shown = shortened(content, room)
        room -= cell_len(shown)
        _append(pieces, shown, role)
        if shown != content:
            break
    if room > 0:
        if right:
            pieces.insert(0, (" " * room, PLAIN))
        else:
            _append(pieces, " " * room, PLAIN)
    return tuple(pieces)


def bar(share: float, width: int) -> Cell:
    """A bar of `width` columns, filled by `share` (0 to 1) in half columns; the rest is a thin line."""
    halves = min(max(round(share * width * 2), 0), width * 2)
    if share > 0 and halves == 0:
        halves = 1
    full, half = divmod(halves, 2)
    filled = _FULL * full + (_HALF if half else "")
    return (*text(filled, BAR), *text(_TRACK * (width - full - half), TRACK))


def _append(pieces: list[tuple[str, str]], content: str, role: str) -> None:
    if not content:
        return
    if pieces and pieces[-1][1] == role:
        pieces[-1] = (pieces[-1][0] + content, role)
    else:
        pieces.append((content, role))
