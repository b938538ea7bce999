"""Terminals that can't show every character."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from gpumodels_tui.plain_terminal import ASCII, CONSOLE, in_ascii, in_console_font, needs_ascii
from gpumodels_tui.theme import THEMES
from gpumodels_tui.view.events import EventKind
from gpumodels_tui.widgets.event_table import SIGNS
from gpumodels_tui.widgets.memory_bar import FREE, MARKS


@given(st.text())
def test_everything_becomes_ascii_in_as_many_columns(text: str) -> None:
    likeness = in_ascii(text)
    assert likeness.isascii()
    if text.isprintable():
        assert cell_len(likeness) == cell_len(text)


def test_likenesses_take_the_columns_of_what_they_are_for() -> None:
    for table in (ASCII, CONSOLE):
        assert [mark for mark, likeness in table.items() if cell_len(mark) != cell_len(likeness)] == []


def test_the_parts_of_a_bar_are_told_apart_by_their_marks_alone() -> None:
    marks = [*(mark for mark, _, _ in MARKS.values()), FREE]
    assert len(set(marks)) == len(marks)
    assert len(set(map(in_ascii, marks))) == len(marks)
    assert len(set(map(in_console_font, marks))) == len(marks)


def test_every_part_and_every_kind_of_event_has_a_role_in_every_look() -> None:
    roles = {role for _, role, _ in MARKS.values()} | {role for _, role in SIGNS.values()}
    assert set(SIGNS) == set(EventKind)
    for look in THEMES.values():
        assert roles <= set(look.styles)


def test_sequences_for_the_terminal_pass_as_they_are() -> None:
    assert in_ascii("\x1b[1;32m█\x1b[0m") == "\x1b[1;32m#\x1b[0m"
    assert in_console_font("模型…") == "模型~"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"LANG": "en_US.UTF-8"}, False),
        ({"LANG": "de_DE.utf8"}, False),
        ({"LANG": "C"}, True),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, True),
        ({"LC_CTYPE": "C.UTF-8"}, False),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "C"}, True),
        ({"LANG": "C", "LC_ALL": "C.UTF-8"}, False),
        ({"LANG": "en_US.UTF-8", "LC_CTYPE": "de_DE.ISO-8859-1"}, True),
        ({"LANG": "ja_JP.eucJP"}, True),
    ],
)
def test_a_locale_that_is_not_utf8_needs_ascii(environment: dict[str, str], expected: bool) -> None:
    assert needs_ascii(environment) is expected
