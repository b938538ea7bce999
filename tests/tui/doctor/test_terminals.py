"""The terminal, as the environment and the kernel describe it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import sys
import termios
from pathlib import Path
from typing import Final

import pytest

from gpumodels_tui.doctor import terminals
from machines import a_machine, found, statuses
from processes import run_python

README = (Path(__file__).resolve().parents[3] / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("environment", "status", "text"),
    [
        ({"TERM": "xterm-256color"}, "PASS", "TERM=xterm-256color"),
        ({"TERM": "tmux", "TMUX": "/tmp/x", "SSH_CONNECTION": "1 2"}, "PASS", "TERM=tmux, in tmux, over SSH"),
        ({"TERM": "screen", "STY": "1.a"}, "PASS", "TERM=screen, in screen"),
        ({"TERM": "dumb"}, "WARN", "TERM=dumb: no screens can be drawn on it"),
        ({}, "WARN", "TERM=(not set): no screens can be drawn on it"),
    ],
)
def test_a_terminal_that_can_be_drawn_on_passes(environment: dict[str, str], status: str, text: str) -> None:
    assert found(terminals.kind, a_machine(environment=environment)) == [(status, text)]


@pytest.mark.parametrize("check", [terminals.kind, terminals.colours, terminals.size], ids=lambda check: check.__name__)
def test_where_there_is_no_terminal_nothing_is_wrong_with_it(check: object) -> None:
    assert callable(check)
    assert statuses(check, a_machine(terminal=None)) == ["PASS"]


COLOURS: Final[tuple[tuple[dict[str, str], str], ...]] = (
    ({"TERM": "xterm"}, "PASS"),
    ({"TERM": "xterm-nobodys", "COLORTERM": "truecolor"}, "PASS"),
    ({"TERM": "xterm-nobodys"}, "WARN"),
    ({"TERM": "vt100"}, "WARN"),
    ({"TERM": "vt100", "NO_COLOR": "1"}, "PASS"),
    ({}, "WARN"),
)


def test_a_terminal_without_colours_warns_unless_none_are_wanted() -> None:
    program = f"""
    from gpumodels_tui.doctor import terminals
    from gpumodels_tui.doctor.findings import Check
    from gpumodels_tui.doctor.running import run_checks
    from machines import a_machine
    for environment, _ in {COLOURS!r}:
        print(*(one.status.value for one in run_checks([Check("a", terminals.colours)], a_machine(environment=environment))))
    """
    done = run_python(program, environment={"PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.stdout.split() == [status for _, status in COLOURS], done.stderr


@pytest.mark.parametrize(
    ("environment", "status"),
    [
        ({"LANG": "de_DE.UTF-8"}, "PASS"),
        ({}, "PASS"),
        ({"LC_ALL": "C", "LANG": "C.UTF-8"}, "WARN"),
        ({"LANG": "de_DE"}, "WARN"),
    ],
)
def test_a_locale_other_than_utf_8_warns(environment: dict[str, str], status: str) -> None:
    assert statuses(terminals.utf8, a_machine(environment=environment)) == [status]


@pytest.mark.parametrize(("size", "status"), [((60, 10), "PASS"), ((59, 40), "WARN"), ((200, 9), "WARN")])
def test_a_terminal_that_is_too_small_warns(size: tuple[int, int], status: str) -> None:
    assert statuses(terminals.size, a_machine(terminal=size)) == [status]


def test_the_least_size_is_that_of_the_readme() -> None:
    (columns, lines) = re.findall(r"needs (\d+)\s+columns and (\d+) lines", README)[0]
    assert (int(columns), int(lines)) == (terminals.LEAST_COLUMNS, terminals.LEAST_LINES)


def test_the_size_is_that_of_a_real_terminal() -> None:
    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 12, 61, 0, 0))
    assert terminals.terminal_size(terminal) == (61, 12)
    os.close(terminal)
    os.close(master)
    with Path(os.devnull).open("rb") as nothing:
        assert terminals.terminal_size(nothing.fileno()) is None
