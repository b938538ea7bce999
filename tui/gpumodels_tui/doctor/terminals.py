"""Checks of the terminal that the screens would be drawn on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from gpumodels_tui.doctor.findings import Finding, passed, warned
from gpumodels_tui.doctor.machine import Machine
from gpumodels_tui.plain_terminal import needs_ascii

LEAST_COLUMNS: Final = 60
LEAST_LINES: Final = 10
NO_TERMINAL: Final = "stdout is no terminal, so nothing is drawn"


def kind(machine: Machine) -> Iterator[Finding]:
    """Whether screens can be drawn on it."""
    name = machine.environment.get("TERM", "")
    if machine.terminal is None:
        yield passed(f"{NO_TERMINAL}; without an option, gpumodels-tui prints as with --once")
    elif name in ("", "dumb"):
        yield warned(
            f"TERM={name or '(not set)'}: no screens can be drawn on it",
            "Set TERM to your terminal's name, such as xterm-256color.",
        )
    else:
        inside = ", in tmux" if machine.environment.get("TMUX") else ", in screen" if machine.environment.get("STY") else ""
        over_ssh = ", over SSH" if machine.environment.get("SSH_CONNECTION") else ""
        yield passed(f"TERM={name}{inside}{over_ssh}")


def colours(machine: Machine) -> Iterator[Finding]:
    """How many colours it has."""
    if machine.environment.get("NO_COLOR"):
        yield passed("NO_COLOR is set: no colours are used")
        return
    if machine.terminal is None:
        yield passed(NO_TERMINAL)
        return
    name = machine.environment.get("TERM", "")
    count = _count(name)
    if machine.environment.get("COLORTERM") in ("truecolor", "24bit"):
        yield passed(f"{name} has 16 million colours, of which the default theme uses the terminal's own sixteen")
    elif count is None:
        yield warned(f"TERM={name} is unknown on this machine", "Set TERM to one that `infocmp` knows, such as xterm-256color.")
    elif count < 8:
        yield warned(f"{name} has no colours", "Run: gpumodels-tui --theme monochrome")
    else:
        yield passed(f"{name} has {count} colours")


def utf8(machine: Machine) -> Iterator[Finding]:
    """Whether characters beyond ASCII arrive."""
    environment = machine.environment
    stated = next((f"{name}={environment[name]}" for name in ("LC_ALL", "LC_CTYPE", "LANG") if environment.get(name)), "")
    if needs_ascii(machine.environment):
        yield warned(f"the locale is not UTF-8 ({stated}), so everything is drawn in ASCII", "Set LC_ALL=C.UTF-8.")
    else:
        yield passed(stated or "no locale is set, so UTF-8 is assumed")


def size(machine: Machine) -> Iterator[Finding]:
    """Whether the screens have room."""
    if machine.terminal is None:
        yield passed(NO_TERMINAL)
        return
    columns, lines = machine.terminal
    shown = f"{columns} columns and {lines} lines"
    if columns < LEAST_COLUMNS or lines < LEAST_LINES:
        yield warned(f"{shown}: the screens need {LEAST_COLUMNS} and {LEAST_LINES}", "Make the window larger.")
    else:
        yield passed(shown)


def terminal_size(descriptor: int) -> tuple[int, int] | None:
    """Columns and lines of the terminal at this descriptor; None if it isn't one."""
    try:
        return tuple(os.get_terminal_size(descriptor)) if os.isatty(descriptor) else None  # type: ignore[return-value]
    except OSError:
        return None


def _count(name: str) -> int | None:
    """How many colours terminfo says; None if it doesn't know the terminal."""
    if not name:
        return None
    try:
        import curses  # some builds of Python lack it
    except ImportError:
        return 8
    try:
        curses.setupterm(name, 1)  # once in a process: every check has its own
    except curses.error:
        return None
    return max(0, curses.tigetnum("colors"))
