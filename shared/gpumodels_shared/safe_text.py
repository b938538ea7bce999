"""Text from snapshots and model files is data: what could steer a terminal or deceive an eye is made visible."""

from __future__ import annotations

import unicodedata
from typing import Final

_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that draw nothing of their own, or steer: controls, bidi marks, surrogates, private use, separators."""

MAX_COMBINING: Final = 4
"""Combining marks kept on one character; more is a tower that climbs into neighbouring lines."""


def safe_text(text: str, limit: int = 1000) -> str:
    """The text with everything invisible or steering written as an escape (`\\x1b`, `\\u202e`), cut at `limit` characters.

    Markup is left alone: whoever draws it must pass it as plain text. An ordinary name is returned as it is.
    """
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    if text.isascii() and text.isprintable():
        return text
    shown: list[str] = []
    combining = 0
    for character in text:
        if unicodedata.combining(character):
            combining += 1
            if combining > MAX_COMBINING:
                continue
        else:
            combining = 0
        shown.append(_escape(character) if unicodedata.category(character) in _HIDDEN else character)
    return "".join(shown)


def _escape(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
