"""Table cells: pieces of text with roles, fitted to a number of terminal columns. Wide characters count as two columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rich.cells import cell_len, set_cell_size

from gpumodels_tui.theme import BAR, PLAIN, TRACK

Cell = tuple[tuple[str, str], ...]
"""Pieces of text with their roles; neighbours with the same role are one piece, so that they are written together."""

BLANK: Final[Cell] = ()
ELLIPSIS: Final = "…"
UNSTEADY: Final[Mapping[int, str | None]] = {
    **dict.fromkeys([0xFE0E, 0xFE0F, *range(0x1F3FB, 0x1F400)]),
    **{0x1F1E6 + number: letter for number, letter in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZ")},
}
"""Characters whose width depends on the terminal, changed so that columns line up.

Left out are variation selectors (which may turn a heart into a red one of two columns) and skin tones (which terminals that don't
support them show as two columns of their own). The letters of flags, of one or two columns each, become plain ones.
"""
_FULL: Final = "━"
_HALF: Final = "╸"
_TRACK: Final = "─"


def text(content: str, role: str = PLAIN) -> Cell:
    """A cell of one piece, without characters whose width depends on the terminal."""
    if not content.isascii():
        content = content.translate(UNSTEADY)
    return ((content, role),) if content else BLANK


def width_of(cell: Cell) -> int:
    """The number of terminal columns that the cell takes."""
    return sum(cell_len(content) for content, _ in cell)


def fits(content: str, width: int) -> bool:
    """Whether the text takes at most `width` columns.

    A character takes one or two, or none if it is combining; a text with far more characters need not be measured.
    """
    return len(content) <= width * 8 and cell_len(content) <= width


def shortened(content: str, width: int) -> str:
    """The text in at most `width` columns; if it is cut, it ends in an ellipsis."""
    if fits(content, width):
        return content
    if width <= 0:
        return ""
    return set_cell_size(content[: width * 8], width - 1).rstrip() + ELLIPSIS


def ending(content: str, width: int) -> str:
    """The text in at most `width` columns; if it is cut, at its beginning, where an ellipsis stands."""
    if fits(content, width):
        return content
    if width <= 0:
        return ""
    begin = len(content)
    while begin > 0 and fits(content[begin - 1 :], width - 1):
        begin -= 1
    while begin < len(content) and not cell_len(content[begin]):
        begin += 1  # marks whose letter is cut off would combine with the ellipsis
    return ELLIPSIS + content[begin:]


def fitted(cell: Cell, width: int, right: bool = False) -> Cell:
    """The cell in exactly `width` columns: cut with an ellipsis, or padded, on the left if `right` is set."""
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
    """A bar of `width` columns, of which `share` (0 to 1) is filled in steps of half a column; the rest is a thin line."""
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
