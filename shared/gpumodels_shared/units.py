"""Formats bytes, ages, counts and one-line descriptions of models for people."""

from __future__ import annotations

from typing import Final

_UNITS: Final = ("B", "KB", "MB", "GB", "TB", "PB")


def format_bytes(count: int) -> str:
    """`2.1 GB`, `512 MB`: powers of 1024, with one decimal below 10, and from GB on below 100."""
    value = float(abs(count))
    sign = "-" if count < 0 else ""
    for position, unit in enumerate(_UNITS):
        is_integer = position == 0 or round(value, 1) >= (10 if position < 3 else 100)
        shown = f"{value:.{0 if is_integer else 1}f}"
        if float(shown) < 1024 or unit == _UNITS[-1]:
            return f"{sign}{shown} {unit}"
        value /= 1024
    raise AssertionError("unreachable")


def format_age(seconds: float) -> str:
    """`12s`, `2m`, `5h`, `3d`: an age in its largest unit; `0s` if it is negative because clocks differ."""
    full_seconds = max(0, int(seconds))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if full_seconds >= size:
            return f"{full_seconds // size}{unit}"
    return f"{full_seconds}s"


def format_count(count: int) -> str:
    """`14.3 B`, `337 M`, `12 k`: a number of parameters in powers of 1000, with a decimal where it is short enough."""
    value = float(count)
    for unit in ("", " k", " M", " B", " T"):
        is_integer = not unit or round(value, 1) >= (10 if unit == " k" else 100)
        shown = f"{value:.{0 if is_integer else 1}f}"
        if float(shown) < 1000 or unit == " T":
            return f"{shown}{unit}"
        value /= 1000
    raise AssertionError("unreachable")


def describe_model(name: str, kind: str, resident_bytes: int, layers: int, unread_tensors: int = 0) -> str:
    """`Wan2_2-T2V-A14B-HIGH (checkpoint, 2.1 GB, 145 layers)`; `2.1 GB + unknown` if some tensors have an unknown size."""
    noun = "layer" if layers == 1 else "layers"
    size = format_bytes(resident_bytes) + (" + unknown" if unread_tensors else "")
    return f"{name} ({kind}, {size}, {layers} {noun})"
