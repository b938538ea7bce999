"""The picture of the terminal: whatever is drawn, a terminal shows the same as if all of it were sent, for far fewer bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len, chop_cells

from gpumodels_tui.tty.picture import CLEAR, Picture

COLUMNS, LINES = 12, 4
SEQUENCES: Final = re.compile(r"\x1b\[(\d*)(?:;(\d+))?([HCKJ])|\x1b\[([\d;]*)m|([^\x1b\n])|(\n)")
STYLES: Final = ("", "0", "1", "1;32", "32;49", "7", "4;31", "44", "39;49", "38;5;49", "48;2;1;49;3", "0;2")


class Screen:
    """A small terminal: each cell with its characters and what a person would see of its style."""

    def __init__(self) -> None:
        self.cells = [[("?", "")] * COLUMNS for _ in range(LINES)]
        self.x = self.y = 0
        self.style: tuple[str, ...] = ()

    def send(self, data: str) -> None:
        """Show what is sent."""
        position = 0
        while position < len(data):
            found = SEQUENCES.match(data, position)
            assert found is not None, data[position:]
            position = found.end()
            first, second, kind, style, character, _ = found.groups()
            if kind == "H":
                self.y, self.x = int(first or 1) - 1, int(second or 1) - 1
            elif kind == "C":
                self.x += int(first or 1)
            elif kind == "K":
                self.cells[self.y][self.x :] = [seen_on_blanks(self.style)] * (COLUMNS - self.x)
            elif kind == "J":
                self.cells = [[seen_on_blanks(self.style)] * COLUMNS for _ in range(LINES)]
            elif style is not None:
                self.use(style)
            elif character is not None:
                self.put(character)

    def use(self, parameters: str) -> None:
        """Set the style."""
        rest = iter(parameters.split(";"))
        for one in rest:
            if one in ("", "0"):
                self.style = ()
            elif one in ("38", "48"):
                kind = next(rest)
                self.style += (";".join([one, kind, *(next(rest) for _ in range(3 if kind == "2" else 1))]),)
            elif one not in ("39", "49"):
                self.style += (one,)

    def put(self, character: str) -> None:
        """Write one character and move on; at the right margin the cursor stays."""
        width = cell_len(character)
        if width == 0 or self.y >= LINES or self.x + width > COLUMNS:
            return
        line = self.cells[self.y]
        if self.x and not line[self.x][0]:
            line[self.x - 1] = seen_on_blanks(line[self.x - 1][1].split())
        if self.x + width < COLUMNS and not line[self.x + width][0]:
            line[self.x + width] = seen_on_blanks(line[self.x + width][1].split())
        line[self.x] = (character, " ".join(sorted(self.style))) if character != " " else seen_on_blanks(self.style)
        if width == 2:
            line[self.x + 1] = ("", line[self.x][1])
        self.x = min(self.x + width, COLUMNS - 1) if self.x + width < COLUMNS else COLUMNS
        if self.x == COLUMNS:
            self.x = COLUMNS  # what follows without a move is lost here, as the driver turns wrapping off


def seen_on_blanks(style: Iterable[str]) -> tuple[str, str]:
    """A blank of this style: an underline and reverse video show all of it, else only the background can be seen."""
    style = list(style)
    seen = style if {"4", "7"} & set(style) else [one for one in style if one.startswith("48") or one == "44"]
    return " ", " ".join(sorted(seen))


def a_picture() -> Picture:
    picture = Picture(0, 0)
    picture.forget(COLUMNS, LINES)
    return picture


def drawn_at(line: int, column: int, text: str, style: str = "") -> str:
    text = chop_cells(text, max(COLUMNS + 1 - column, 1))[0] if text else text
    return f"\x1b[{line};{column}H" + (f"\x1b[{style}m{text}\x1b[0m" if style else text)


pieces = st.builds(
    drawn_at,
    st.integers(1, LINES),
    st.integers(1, COLUMNS),
    st.text("ab ─█模é", max_size=COLUMNS),
    st.sampled_from(STYLES),
)


@given(st.lists(st.lists(pieces, max_size=5), max_size=6))
def test_the_terminal_shows_what_was_drawn(frames: list[list[str]]) -> None:
    full, less, picture = Screen(), Screen(), a_picture()
    full.send(CLEAR)
    for frame in frames:
        full.send("".join(frame))
        less.send(picture.update("".join(frame)))
        assert [[cell for cell in line if cell[0]] for line in less.cells] == [
            [cell for cell in line if cell[0]] for line in full.cells
        ]


def test_what_is_drawn_already_is_not_sent() -> None:
    picture = a_picture()
    drawing = drawn_at(1, 1, "GPU 0", "1;32") + drawn_at(2, 3, "wan  ▓▓")
    assert picture.update(drawing)
    assert picture.update(drawing) == ""


def test_one_digit_costs_a_move_and_the_digit() -> None:
    picture = a_picture()
    picture.update(drawn_at(1, 1, "41.6 GB  9W") + drawn_at(2, 1, "x"))
    assert picture.update(drawn_at(1, 1, "41.7 GB  9W")) == "\x1b[1;4H7"


def test_changes_far_apart_are_reached_by_moves_and_close_ones_by_writing() -> None:
    picture = a_picture()
    picture.update(drawn_at(1, 1, "1 1       1"))
    assert picture.update(drawn_at(1, 1, "2 2       2")) == "\x1b[1;1H2 2\x1b[7C2"


def test_blanks_at_the_end_are_erased_at_once() -> None:
    picture = a_picture()
    picture.update(drawn_at(1, 1, "abcdefghijkl", "1"))
    assert picture.update(drawn_at(1, 1, "ab" + " " * 10, "1;39")) == "\x1b[1;3H\x1b[K"


def test_a_background_reaches_to_the_end() -> None:
    picture = a_picture()
    assert picture.update(drawn_at(1, 1, " " * COLUMNS, "44")) == CLEAR + "\x1b[44m" + " " * COLUMNS


def test_a_line_is_sent_whole_where_terminals_disagree_about_widths_and_each_end_is_stated() -> None:
    picture = a_picture()
    picture.update(drawn_at(1, 1, "模型 a"))
    assert picture.update(drawn_at(1, 1, "模型 b")) == "\x1b[1;1H\x1b[K模\x1b[1;3H型\x1b[1;5H b"


def test_settings_pass_in_their_place() -> None:
    picture = a_picture()
    sent = picture.update(drawn_at(1, 1, "a") + "\x1b]52;c;YQ==\x07" + drawn_at(1, 2, "b"))
    assert sent == CLEAR + "a\x1b]52;c;YQ==\x07b"
    assert picture.update("\x1b[?25l") == "\x1b[?25l"


def test_a_resized_terminal_is_drawn_anew_from_memory() -> None:
    picture = a_picture()
    picture.update(drawn_at(1, 1, "models") + drawn_at(LINES, 1, "keys"))
    picture.forget(COLUMNS + 2, LINES - 1)
    assert picture.update("") == CLEAR + "models"


def test_nothing_is_sent_beyond_the_edges() -> None:
    picture = a_picture()
    assert picture.update(f"\x1b[1;{COLUMNS - 1}Habc" + drawn_at(LINES + 1, 1, "d")) == CLEAR + f"\x1b[{COLUMNS - 2}Cab"


@pytest.mark.parametrize("column", [1, 5])
def test_a_cursor_that_waits_in_a_line_of_text_is_put_there_and_one_in_the_corner_is_not(column: int) -> None:
    picture = a_picture()
    sent = picture.update(drawn_at(2, 1, "wor") + f"\x1b[2;{column}H")
    assert sent.endswith("wor" if column == 4 else f"\x1b[2;{column}H" if column == 1 else "\x1b[C")
    assert picture.update(drawn_at(2, 1, "wor") + "\x1b[1;1H") == ""
