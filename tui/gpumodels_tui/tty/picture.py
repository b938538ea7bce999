"""What the terminal shows, cell by cell, so that only the cells that differ are sent to it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from rich.cells import cell_len

_TOKENS: Final = re.compile(
    r"\x1b\[(?P<line>\d+);(?P<column>\d+)H"
    r"|\x1b\[(?P<style>[\d;]*)m"
    r"|(?P<text>[^\x00-\x1f\x7f]+)"
    r"|(?P<break>\r?\n)"
    r"|(?P<other>\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b\[[0-?]*[ -/]*[@-~]|\x1b[^\[\]]|[\x00-\x1f\x7f])"
)
"""All that Textual sends: positions, styles, text, ends of lines before the next position, and settings."""

CLEAR: Final = "\x1b[m\x1b[H\x1b[2J"

_STEADY: Final = re.compile("[ -~\xa0-\xac\xae-\u02ff\u0370-\u0482\u2013\u2022\u2026\u2190-\u2193\u2500-\u25fc\u2800-\u28ff]*")
"""Characters that take one column on every terminal."""

_SHORTEST_MOVE: Final = 4
"""The characters of `\\x1b[4C`: up to so many cells that have not changed are sent again rather than skipped."""

_SHOWN_ON_BLANKS: Final = frozenset({"4", "7", "9", "21", "53"})
"""Underline, reverse, strike and overline, which blanks show too."""


class Picture:
    """The cells of a terminal of this size. It must be told to `forget` before the first update, which then clears the screen.

    Each cell has its characters and the parameters of its style, empty for the default. The second cell of a wide character is
    empty. Where terminals may disagree about widths, the line is sent as a whole, and each such character's end is stated.
    """

    def __init__(self, columns: int, lines: int) -> None:
        self.columns = columns
        self.lines = lines
        self._shown = [_Row(columns) for _ in range(lines)]
        self._wanted = [_Row(columns) for _ in range(lines)]
        self._is_unknown = True
        self._column: int | None = 0
        """Where the terminal's cursor is; None if that isn't certain."""
        self._line = 0
        self._style = ""
        """The style that the terminal draws with."""

    def forget(self, columns: int, lines: int) -> None:
        """The terminal has this size now, and may show anything: the next update sends the whole picture."""
        kept = self._wanted
        self.columns, self.lines = columns, lines
        self._shown = [_Row(columns) for _ in range(lines)]
        self._wanted = [_Row(columns) for _ in range(lines)]
        for row, before in zip(self._wanted, kept, strict=False):
            row.take(before)
        self._is_unknown = True

    def update(self, drawing: str) -> str:
        """What to send instead of these characters, which draw some of the cells: nothing if they are drawn so already."""
        sent: list[str] = []
        changed: set[int] = set()
        if self._is_unknown:
            self._is_unknown = False
            sent.append(CLEAR)
            self._line, self._column, self._style = 0, 0, ""
            changed.update(range(self.lines))
        line = column = 0
        style = ""
        placed = False
        for token in _TOKENS.finditer(drawing):
            kind = token.lastgroup
            if kind == "column":
                line, column, placed = int(token["line"]) - 1, int(token["column"]) - 1, True
            elif kind == "style":
                style = _canonical(token["style"])
            elif kind == "text":
                placed = False
                if line < self.lines:
                    column = self._wanted[line].write(column, token["text"], style)
                    changed.add(line)
            elif kind == "other":
                sent += self._changes(changed)
                changed.clear()
                sent.append(token["other"])
        sent += self._changes(changed)
        if placed and (line or column):
            # A cursor that waits elsewhere than in the corner is where an input method shows what it composes.
            sent += self._move(line, column)
        return "".join(sent)

    def _changes(self, lines: set[int]) -> Iterator[str]:
        for line in sorted(lines, key=lambda line: (line != self._line, line)):
            shown, wanted = self._shown[line], self._wanted[line]
            if shown == wanted:
                continue
            if shown.is_steady and wanted.is_steady:
                for start, end in _differences(shown, wanted):
                    yield from self._move(line, start)
                    yield from self._send(wanted, start, end)
            else:
                yield from self._send_whole(line, wanted)
            shown.take(wanted)

    def _move(self, line: int, column: int) -> Iterator[str]:
        if self._column is not None and line == self._line:
            if column == self._column:
                return
            if column > self._column:
                skipped = column - self._column
                yield "\x1b[C" if skipped == 1 else f"\x1b[{skipped}C"
                self._column = column
                return
        yield f"\x1b[{line + 1};{column + 1}H"
        self._line, self._column = line, column

    def _send(self, row: _Row, start: int, end: int) -> Iterator[str]:
        characters, styles = row.characters, row.styles
        erased = row.blank_from() if end == self.columns else end
        if end - erased <= len("\x1b[K"):
            erased = end
        position = start
        while position < erased:
            style = styles[position]
            if characters[position] == " " and style == _on_blanks(self._style):
                style = self._style
            yield from self._use(style)
            stop = position + 1
            blank = _on_blanks(style)
            while stop < erased and styles[stop] == (blank if characters[stop] == " " else style):
                stop += 1
            yield "".join(characters[position:stop])
            position = stop
        # Behind the last column terminals keep the cursor in different ways.
        self._column = erased if erased < self.columns else None
        if erased < end:
            if _on_blanks(self._style):
                yield from self._use("")
            yield "\x1b[K"

    def _send_whole(self, line: int, row: _Row) -> Iterator[str]:
        """The line anew, with the place of what follows each character about whose width terminals disagree."""
        yield from self._move(line, 0)
        yield from self._use("")
        yield "\x1b[K"
        start = 0
        last = row.blank_from()
        for position, characters in enumerate(row.characters[:last]):
            if not characters or (len(characters) == 1 and _STEADY.fullmatch(characters)):
                continue
            if start < position:
                yield from self._move(line, start)
                yield from self._send(row, start, position)
            yield from self._move(line, position)
            yield from self._use(row.styles[position])
            yield characters
            self._column = None
            start = position + (2 if row.characters[position + 1 : position + 2] == [""] else 1)
        if start < last:
            yield from self._move(line, start)
            yield from self._send(row, start, last)

    def _use(self, style: str) -> Iterator[str]:
        if style == self._style:
            return
        if not style:
            yield "\x1b[m"
        elif not self._style:
            yield f"\x1b[{style}m"
        else:
            yield f"\x1b[0;{style}m"
        self._style = style


class _Row:
    """One line of the terminal."""

    __slots__ = ("characters", "is_steady", "styles")

    def __init__(self, columns: int) -> None:
        self.characters = [" "] * columns
        self.styles = [""] * columns
        self.is_steady = True
        """Whether all terminals agree about the width of all characters."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Row) and self.characters == other.characters and self.styles == other.styles

    __hash__ = None  # type: ignore[assignment]  # it changes

    def take(self, other: _Row) -> None:
        """Become like the other row."""
        width = len(self.characters)
        self.characters[: len(other.characters)] = other.characters[:width]
        self.styles[: len(other.styles)] = other.styles[:width]
        self.is_steady = other.is_steady

    def write(self, column: int, text: str, style: str) -> int:
        """Put the text there, as far as there is room. Returns the column behind it."""
        is_steady = bool(_STEADY.fullmatch(text))
        cells = list(text) if is_steady else _cells(text)
        end = column + len(cells)
        if column >= len(self.characters):
            return end
        room = len(self.characters) - column
        if len(cells) > room:
            if cells[room] == "":
                cells[room - 1] = " "
            del cells[room:]
        # Of a wide character that is half overwritten, a blank remains.
        if column and self.characters[column] == "":
            self._blank(column - 1)
        if end < len(self.characters) and self.characters[end] == "":
            self._blank(end)
        self.characters[column : column + len(cells)] = cells
        if " " in text and (blank := _on_blanks(style)) != style:
            self.styles[column : column + len(cells)] = [blank if cell == " " else style for cell in cells]
        else:
            self.styles[column : column + len(cells)] = [style] * len(cells)
        if not is_steady:
            self.is_steady = False
        elif not self.is_steady:
            self.is_steady = bool(_STEADY.fullmatch("".join(self.characters))) and "" not in self.characters
        return end

    def is_drawn_on(self, start: int, end: int) -> bool:
        """Whether these cells can be sent behind the one before them without another style."""
        style = self.styles[start - 1]
        blank = _on_blanks(style)
        return all(self.styles[one] == (blank if self.characters[one] == " " else style) for one in range(start, end))

    def _blank(self, column: int) -> None:
        self.characters[column], self.styles[column] = " ", _on_blanks(self.styles[column])

    def blank_from(self) -> int:
        """The first of the plain blanks at the end."""
        end = len(self.characters)
        while end and self.characters[end - 1] == " " and not self.styles[end - 1]:
            end -= 1
        return end


def _differences(shown: _Row, wanted: _Row) -> Iterator[tuple[int, int]]:
    """Ranges of cells to send: those that differ, joined where skipping what is between costs more than sending it."""
    start = end = -1
    cells = enumerate(zip(shown.characters, wanted.characters, shown.styles, wanted.styles, strict=True))
    for column, (old, new, old_style, new_style) in cells:
        if old == new and old_style == new_style:
            continue
        if end >= 0 and (column - end > _SHORTEST_MOVE or not wanted.is_drawn_on(end, column)):
            yield start, end
            start = -1
        if start < 0:
            start = column
        end = column + 1
    if start >= 0:
        yield start, end


def _cells(text: str) -> list[str]:
    """The characters of each cell, as Rich counts: combining ones with those before them, none for the second of a wide one."""
    cells: list[str] = []
    before = 0
    for position, character in enumerate(text, start=1):
        width = cell_len(text[:position])
        added, before = width - before, width
        if added <= 0 or (added == 1 and character == "\ufe0f"):
            owner = max((place for place, cell in enumerate(cells) if cell), default=-1)
            if owner >= 0:
                cells[owner] += character
                cells += [""] * max(added, 0)
            continue
        cells += [character, *[""] * (added - 1)]
    return cells


@lru_cache(maxsize=1024)
def _canonical(parameters: str) -> str:
    """The parameters without those that set what is the default anyway."""
    kept: list[str] = []
    rest = iter(parameters.split(";"))
    for one in rest:
        if one in ("", "0"):
            kept.clear()
        elif one in ("38", "48"):
            kind = next(rest, "")
            kept += [one, kind, *(next(rest, "") for _ in range(3 if kind == "2" else 1))]
        elif one not in ("39", "49"):
            kept.append(one)
    return ";".join(kept)


@lru_cache(maxsize=1024)
def _on_blanks(style: str) -> str:
    """The part of a style that a blank shows: a background, or all of it if it shows the foreground too, as a line does."""
    parameters = style.split(";")
    background: list[str] = []
    rest = iter(parameters)
    for one in rest:
        if one in _SHOWN_ON_BLANKS:
            return style
        if one in ("38", "48"):
            kind = next(rest, "")
            colour = [one, kind, *(next(rest, "") for _ in range(3 if kind == "2" else 1))]
            background += colour if one == "48" else []
        elif one.startswith("10") or (one.startswith("4") and len(one) == 2):
            background.append(one)
    return ";".join(background)
