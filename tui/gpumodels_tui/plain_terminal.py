"""Replacements for characters that a terminal can't show; each takes the same number of columns as the original."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rich.cells import cell_len

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
"""For any terminal; characters that aren't listed become question marks."""

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
"""For the Linux console, whose fonts have the old PC's characters; characters that aren't listed are left unchanged."""


def in_ascii(text: str) -> str:
    """The text in ASCII, with a similar character of the same width for each other one."""
    return text if text.isascii() else "".join(map(_ascii, text))


def in_console_font(text: str) -> str:
    """The text with similar characters for those that the Linux console's fonts lack."""
    return text if text.isascii() else "".join(CONSOLE.get(character, character) for character in text)


def needs_ascii(environment: Mapping[str, str]) -> bool:
    """Whether the locale's encoding isn't UTF-8.

    Without any locale, a modern terminal with UTF-8 is assumed. If the locale is C, Python itself sets LC_CTYPE to `C.UTF-8`,
    so then LANG counts.
    """
    if chosen := environment.get("LC_ALL"):
        return not _is_utf8(chosen)
    ctype, lang = environment.get("LC_CTYPE", ""), environment.get("LANG", "")
    if ctype and not (ctype == "C.UTF-8" and lang):
        return not _is_utf8(ctype)
    return bool(lang) and not _is_utf8(lang)


def _ascii(character: str) -> str:
    if character.isascii():
        return character
    if (known := ASCII.get(character)) is not None:
        return known
    return "?" * cell_len(character)


def _is_utf8(locale: str) -> bool:
    return "utf8" in locale.casefold().replace("-", "")
