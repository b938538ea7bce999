"""Which of a model file's metadata travel: text of a sane size, no thumbnails or other blobs, the small before the large."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

MAX_KEYS: Final = 1_000
MAX_KEY_CHARACTERS: Final = 256
MAX_VALUE_CHARACTERS: Final = 64 * 1024
MAX_TOTAL_CHARACTERS: Final = 256 * 1024

BRIEF_KEYS: Final = 12
BRIEF_CHARACTERS: Final = 500
"""Kept in memory of each of thousands of files that no model came from."""

EXCERPT_CHARACTERS: Final = 1_000
"""What stays of a value that is too long, an ellipsis after it."""

_PICTURES: Final = re.compile(r"(^|[._])(thumbnail|thumb|preview|cover|icon|image)(_data|_base64|_b64)?$", re.IGNORECASE)
_EMBEDDED: Final = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)


def travelling_metadata(raw: Mapping[str, str]) -> dict[str, str]:
    """The part of the file's metadata that is for people's eyes, in the file's order.

    Where all of it would be too much, the longest values stay behind first.
    """
    kept: dict[str, str] = {}
    for key, value in raw.items():
        if _is_blob(key, value):
            continue
        if len(value) > MAX_VALUE_CHARACTERS:
            value = value[:EXCERPT_CHARACTERS] + "…"
        kept[_cut(key, MAX_KEY_CHARACTERS)] = value
    return _shortest(kept, MAX_KEYS, MAX_TOTAL_CHARACTERS)


def brief_metadata(travelled: Mapping[str, str]) -> Mapping[str, str]:
    """The part that is kept at hand of files that nobody asked about; the very same object where that is all of it."""
    if len(travelled) <= BRIEF_KEYS and sum(len(key) + len(value) for key, value in travelled.items()) <= BRIEF_CHARACTERS:
        return travelled
    return _shortest(travelled, BRIEF_KEYS, BRIEF_CHARACTERS)


def _shortest(metadata: Mapping[str, str], max_keys: int, max_characters: int) -> dict[str, str]:
    """As many of the shortest as there is room for, in their order."""
    total = 0
    affordable: set[str] = set()
    for key in sorted(metadata, key=lambda key: len(key) + len(metadata[key]))[:max_keys]:
        total += len(key) + len(metadata[key])
        if total > max_characters:
            break
        affordable.add(key)
    return {key: value for key, value in metadata.items() if key in affordable}


def _is_blob(key: str, value: str) -> bool:
    """A picture: by what the value is, or by the key where the value is too long to be a link to one."""
    if _EMBEDDED.match(value):
        return True
    return len(value) > EXCERPT_CHARACTERS and _PICTURES.search(key) is not None


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
