"""Which figures of a GPU can be true: a driver in trouble answers with numbers that mean nothing, and those are unknown."""

from __future__ import annotations

from typing import Final

ALL_ONES: Final = frozenset({2**32 - 1, 2**64 - 1})
"""`nvml.h` marks a value as not available by the largest number of its type (`NVML_VALUE_NOT_AVAILABLE`), in 32 or in 64 bits."""

MOST_PERCENT: Final = 100
MOST_CELSIUS: Final = 200
MOST_MILLIWATTS: Final = 10_000_000
"""10 kW; the boards of 2026 draw up to 3 kW."""
MOST_BYTES: Final = 2**48
"""256 TB: more than any GPU or any process has."""
MOST_GPUS: Final = 1024
MOST_PID: Final = 2**22
"""Linux's `PID_MAX_LIMIT`."""


def figure(value: object, most: int) -> int | None:
    """The value if it can be true: a number from 0 to `most` that doesn't mark what isn't available."""
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value <= most and value not in ALL_ONES else None


def total_and_used(total: object, used: object) -> tuple[int | None, int | None]:
    """Both in bytes. No memory has a size of 0, and none is filled by more than its size."""
    size, held = figure(total, MOST_BYTES) or None, figure(used, MOST_BYTES)
    if size is None:
        return None, held or None
    return size, held if held is not None and held <= size else None
