"""Terminals that can't show every character: what is written to them instead, always in as many columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len

if TYPE_CHECKING:
    from textual.driver import Driver

_GRAPH: Final = {"▁": "_", "▂": "_", "▃": "_", "▄": "=", "▅": "=", "▆": "=", "▇": "#", "█": "#"}

ASCII: Final[Mapping[str, str]] = {
    **_GRAPH,
    "▓": "=",
    "▒": "+",
    "░": "-",
    "≡": "c",
    "·": "o",
    "⋅": ".",
    "─": ".",
    "━": "=",
    "╸": "-",
    "└": "`",
    "│": "|",
    "▐": "|",
    "╭": "+",
    "╮": "+",
    "╰": "+",
    "╯": "+",
    "▾": "v",
    "▸": ">",
    "↑": "+",
    "↓": "-",
    "…": "~",
    "–": "-",
    "×": "x",
    "°": " ",
    "•": "*",
}
"""For any terminal at all; what isn't named is a question mark."""

CONSOLE: Final[Mapping[str, str]] = {
    "⋅": "·",
    "▁": "_",
    "▂": "_",
    "▃": "▄",
    "▅": "▄",
    "▆": "█",
    "▇": "█",
    "━": "═",
    "╸": "─",
    "╭": "┌",
    "╮": "┐",
    "╰": "└",
    "╯": "┘",
    "▾": "v",
    "▸": ">",
    "…": "~",
    "–": "-",
    "×": "x",
    "•": "*",
}
"""For the Linux console, whose fonts have the old PC's characters; what isn't named is left to it."""


def in_ascii(text: str) -> str:
    """The text in ASCII: every character by a likeness that takes as many columns."""
    return text if text.isascii() else "".join(map(_ascii, text))


def in_console_font(text: str) -> str:
    """The text with what the Linux console has no picture for by a likeness."""
    return text if text.isascii() else "".join(CONSOLE.get(character, character) for character in text)


def needs_ascii(environment: Mapping[str, str]) -> bool:
    """Whether the locale is one that isn't UTF-8.

    Without any locale nothing is known of the terminal: it is taken for one of today's. Where the locale is C, Python sets
    LC_CTYPE to `C.UTF-8` for itself, so LANG counts then.
    """
    if chosen := environment.get("LC_ALL"):
        return not _is_utf8(chosen)
    ctype, lang = environment.get("LC_CTYPE", ""), environment.get("LANG", "")
    if ctype and not (ctype == "C.UTF-8" and lang):
        return not _is_utf8(ctype)
    return bool(lang) and not _is_utf8(lang)


def driver_for(ascii_only: bool, terminal: str) -> type[Driver] | None:
    """What draws on such a terminal; None for Textual's own."""
    if ascii_only:
        return _driver(in_ascii)
    return _driver(in_console_font) if terminal in ("linux", "linux-16color") else None


def _driver(likeness: Callable[[str], str]) -> type[Driver]:
    from textual.drivers.linux_driver import LinuxDriver

    class PlainDriver(LinuxDriver):
        """Everything that is sent passes here."""

        def write(self, data: str) -> None:
            super().write(likeness(data))

    return PlainDriver


def _ascii(character: str) -> str:
    if character.isascii():
        return character
    if (known := ASCII.get(character)) is not None:
        return known
    return "?" * cell_len(character)


def _is_utf8(locale: str) -> bool:
    return "utf8" in locale.casefold().replace("-", "")
