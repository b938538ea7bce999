"""Formats numbers for the tables: short enough for a column, and rounded so that they don't change needlessly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.units import format_age, format_bytes
from gpumodels_tui.theme import MUTED, PLAIN
from gpumodels_tui.widgets.cells import Cell, fits, shortened, text

SHORT_DTYPES: Final[Mapping[str, str]] = {
    "float64": "fp64",
    "float32": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "float8_e4m3fn": "fp8e4m3",
    "float8_e5m2": "fp8e5m2",
    "float8_e4m3fnuz": "fp8e4m3z",
    "float8_e5m2fnuz": "fp8e5m2z",
    "float4_e2m1fn_x2": "fp4",
}
YOUNG_SECONDS: Final = 60
YOUNG_STEP_SECONDS: Final = 10
LEAST_LABEL: Final = 6
"""A process's label is left out rather than cut to fewer characters than this."""


def bytes_cell(count: int, role: str = PLAIN) -> Cell:
    """`2.1 GB`; zero is a dim dash, so that other values stand out."""
    return text(format_bytes(count), role) if count else text("–", MUTED)


def calm_bytes(count: int) -> str:
    """`14 GB`, `8.9 GB`: no decimals from ten on, for values that change all the time and needn't be exact."""
    number, unit = format_bytes(count).split()
    return f"{float(number):.0f} {unit}" if float(number) >= 10 else f"{number} {unit}"


def short_dtype(dtype: str) -> str:
    """The common short name, such as `bf16+`; an unknown dtype is unchanged."""
    plus = "+" if dtype.endswith("+") else ""
    name = dtype.removesuffix("+")
    return SHORT_DTYPES.get(name, name) + plus


def dtype_in(dtype: str, width: int) -> str:
    """The short name; only `fp8` or `int4` if the name of the exact format or the method doesn't fit."""
    name = short_dtype(dtype)
    if len(name) > width and name.startswith("fp8"):
        return "fp8" + ("+" if name.endswith("+") else "")
    return name.split(" ")[0] if len(name) > width else name


def calm_age(seconds: float) -> str:
    """`10s`, `2m`: below a minute in steps of ten seconds, so that a new row isn't drawn again every second."""
    if YOUNG_STEP_SECONDS <= seconds < YOUNG_SECONDS:
        seconds -= seconds % YOUNG_STEP_SECONDS
    elif seconds < YOUNG_STEP_SECONDS:
        return "now"
    return format_age(seconds)


def process_cell(process: str, width: int) -> Cell:
    """The process's label and pid if there is room, else only the pid, which `ps` and `kill` take."""
    process = safe_text(process)
    if fits(process, width):
        return text(process, MUTED)
    label, _, pid = process.rpartition(" ")
    room = width - len(pid) - 1
    return text(f"{shortened(label, room)} {pid}" if room >= LEAST_LABEL else pid, MUTED)


def percent(share: float) -> str:
    """`7%`; `<1%` for a share that isn't zero but would be rounded to it."""
    rounded = round(share * 100)
    return "<1%" if share > 0 and rounded == 0 else f"{rounded}%"
