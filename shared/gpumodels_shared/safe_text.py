"""Makes text from snapshots and model files safe to show: characters that could control a terminal or deceive become visible."""

from __future__ import annotations

import unicodedata
from typing import Final

_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that are invisible or control the output: controls, bidi marks, surrogates, private use, separators."""

_BLANK: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Letters, marks and a symbol that are invisible although their category isn't: fillers and joiners."""

_MARKS: Final = frozenset({"Mn", "Me"})

MAX_COMBINING: Final = 4
"""The most combining marks kept on a character; more of them would overlap neighbouring lines."""


def safe_text(text: str, limit: int = 1000) -> str:
    """The text cut to `limit` characters, with every invisible or control character written as an escape (`\\x1b`, `\\u202e`).

    Markup is left unchanged: the caller must draw the result as plain text. An ordinary name is returned as it is.
    """
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    if text.isascii() and text.isprintable():
        return text
    shown: list[str] = []
    marks = MAX_COMBINING + 1  # no marks before the first letter: they would combine with whatever is drawn to its left
    for character in text:
        category = unicodedata.category(character)
        if category in _HIDDEN or character in _BLANK or _selects_variant(character):
            shown.append(_escape(character))
            marks = 0
        elif category in _MARKS:
            marks += 1
            if marks <= MAX_COMBINING:
                shown.append(character)
        else:
            shown.append(character)
            marks = 0
    return "".join(shown)


def _selects_variant(character: str) -> bool:
    """Whether it is a variation selector, which is invisible, other than U+FE0E and U+FE0F, which emoji need."""
    return "\ufe00" <= character <= "\ufe0d" or "\U000e0100" <= character <= "\U000e01ef"


def _escape(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
