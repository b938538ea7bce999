"""Selects which of a model file's metadata to keep: short texts before long ones, no thumbnails or other blobs."""

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
"""The limits for what is kept in memory of a file that no model came from; there may be thousands of them."""

CONFIG_KEYS: Final = 100
CONFIG_CHARACTERS: Final = 4_000
"""The same for a config: no model comes from it, but it is read for the models beside it. Most have less than a half of that."""

EXCERPT_CHARACTERS: Final = 1_000
"""How much is kept of a value that is too long, before an ellipsis."""

_PICTURES: Final = re.compile(r"(^|[._])(thumbnail|thumb|preview|cover|icon|image)(_data|_base64|_b64)?$", re.IGNORECASE)
_EMBEDDED: Final = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)


def travelling_metadata(raw: Mapping[str, str]) -> dict[str, str]:
    """The metadata that people can read, in the file's order. If there is too much, the longest values are dropped first."""
    kept: dict[str, str] = {}
    for key, value in raw.items():
        if _is_blob(key, value):
            continue
        if len(value) > MAX_VALUE_CHARACTERS:
            value = value[:EXCERPT_CHARACTERS] + "…"
        kept[_cut(key, MAX_KEY_CHARACTERS)] = value
    return _shortest(kept, MAX_KEYS, MAX_TOTAL_CHARACTERS)


def brief_metadata(travelled: Mapping[str, str], is_config: bool = False) -> Mapping[str, str]:
    """The part kept in memory for a file that no model came from; the same object if that is all of it."""
    keys, characters = (CONFIG_KEYS, CONFIG_CHARACTERS) if is_config else (BRIEF_KEYS, BRIEF_CHARACTERS)
    if len(travelled) <= keys and sum(len(key) + len(value) for key, value in travelled.items()) <= characters:
        return travelled
    return _shortest(travelled, keys, characters)


def _shortest(metadata: Mapping[str, str], max_keys: int, max_characters: int) -> dict[str, str]:
    """As many of the shortest entries as the limits allow, in their original order."""
    total = 0
    affordable: set[str] = set()
    for key in sorted(metadata, key=lambda key: len(key) + len(metadata[key]))[:max_keys]:
        total += len(key) + len(metadata[key])
        if total > max_characters:
            break
        affordable.add(key)
    return {key: value for key, value in metadata.items() if key in affordable}


def _is_blob(key: str, value: str) -> bool:
    """Whether the value is a picture: it says so itself, or its key does and it is too long to be a link."""
    if _EMBEDDED.match(value):
        return True
    return len(value) > EXCERPT_CHARACTERS and _PICTURES.search(key) is not None


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
