"""The kinds of values that options take: how each is read from text, and what to say of text that is none."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from gpumodels_shared.records import Record

LEAST_SECONDS: Final = 0.1
MOST_SECONDS: Final = 3600.0

UNITS: Final = {
    form: 1024**power for power, unit in enumerate(" kmgtp") for form in (unit.strip(), f"{unit.strip()}b", f"{unit}ib")
}
"""Of sizes, by every way to write them; `1.5GB`, `1.5 GiB`, `1.5g` are the same."""


class Kind(Record):
    """A kind of value."""

    expects: str
    """What it must be, `a number of seconds`."""
    read: Callable[[str], object]
    """The value that a text stands for.

    Raises:
        ValueError: it stands for none.
    """
    metavar: str = ""
    choices: Sequence[str] = ()
    """All texts that stand for a value, if there are few."""
    is_switch: bool = False
    """On or off: a flag without a value."""
    completes: str = ""
    """What a shell offers: `file`, `directory`, or nothing."""


def read(kind: Kind, text: str) -> object:
    """The value.

    Raises:
        ValueError: the text stands for none; says what it must be.
    """
    try:
        return kind.read(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not {kind.expects}") from error


def choice(*choices: str) -> Kind:
    """One of a few words."""

    def one_of(text: str) -> str:
        if text not in choices:
            raise ValueError(text)
        return text

    return Kind(f"one of {', '.join(choices)}", one_of, choices=choices)


def whole(least: int = 0) -> Kind:
    """A whole number."""

    def number(text: str) -> int:
        count = int(text)
        if count < least:
            raise ValueError(text)
        return count

    return Kind(f"a whole number from {least}", number, "N")


def seconds(least: float = LEAST_SECONDS, most: float = MOST_SECONDS) -> Kind:
    """A number of seconds within limits."""

    def number(text: str) -> float:
        value = float(text)
        if math.isnan(value) or not least <= value <= most:
            raise ValueError(text)
        return value

    return Kind(f"a number of seconds from {least:g} to {most:g}", number, "SECONDS")


def _text(text: str) -> str:
    if "\0" in text:
        raise ValueError(text)
    return text


def _switch(text: str) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if (value := words.get(text.casefold())) is None:
        raise ValueError(text)
    return value


def _size(text: str) -> int:
    folded = text.strip().casefold()
    number = folded.rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = UNITS.get(folded[len(number) :])
    value = math.nan if unit is None else float(number) * unit
    if not 0 <= value < 2**63:
        raise ValueError(text)
    return int(value)


TEXT: Final = Kind("text", _text, "TEXT")
FILE: Final = Kind("a path", _text, "FILE", completes="file")
DIRECTORY: Final = Kind("a directory", _text, "DIR", completes="directory")
SWITCH: Final = Kind("true or false", _switch, choices=("true", "false"), is_switch=True)
SIZE: Final = Kind("a size, such as 512MB or 2.1GB", _size, "SIZE")
