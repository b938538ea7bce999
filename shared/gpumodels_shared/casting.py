"""What a file's values become when they are loaded: cast to the dtype in memory, at most once through another dtype on the way.

Rounding is to nearest, ties to even, and deterministic. Of the standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

from gpumodels_shared.floats import FORMATS, ITEM_BYTES, decode_values, round_to

_NUMBERS: Final = frozenset({"float64", *FORMATS})
"""The dtypes whose values can be cast."""

Value = float | bytes | None
"""As it is compared: a number; None for NaN; the raw bytes of all values where their dtype holds no numbers that can be cast."""

Values = tuple[Value, ...]


def comparable(dtype: str, data: bytes) -> Values:
    """The elements in the form in which equal ones are equal, and hash alike; nothing where there is no whole element."""
    if dtype not in _NUMBERS:
        return (data,) if data else ()
    if len(data) % ITEM_BYTES[dtype]:
        return ()
    return tuple([None if value != value else value for value in decode_values(dtype, data)])


Way = str | None
"""How values came to the dtype in memory: through this other dtype, or straight."""

STRAIGHT: Final = None

_HOLDS_ALL_OF: Final[Mapping[str, frozenset[str]]] = {
    "float64": frozenset(FORMATS),
    "float32": frozenset(("float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")),
    "float16": frozenset(("float8_e4m3fn", "float8_e5m2")),
    "bfloat16": frozenset(("float8_e4m3fn", "float8_e5m2")),
}
"""The dtypes all of whose values are this one's too: a cast from them changes nothing."""


def agree(sample_dtype: str, sample: bytes, file_dtype: str, in_file: bytes) -> bool:
    """Whether the file's values become the sample's, cast once or twice."""
    values, stated = comparable(sample_dtype, sample), comparable(file_dtype, in_file)
    if not values or len(values) != len(stated):
        return False
    ways = distinct_ways(file_dtype, sample_dtype, _all_ways(sample_dtype))
    # By the first value, which tells most apart, then by all.
    return any(
        cast_values(stated[:1], file_dtype, sample_dtype, way) == values[:1]
        and cast_values(stated, file_dtype, sample_dtype, way) == values
        for way in ways
    )


def plausible_ways(dtype: str, values: Values) -> tuple[Way, ...]:
    """By which of them these values, in memory in this dtype, can have come: what went through another is still exact in it."""
    return tuple(
        way
        for way in _all_ways(dtype)
        if way is STRAIGHT or all(value == _cast_comparable(value, (way, dtype)) for value in values)
    )


def _all_ways(dtype: str) -> tuple[Way, ...]:
    return (STRAIGHT, *(way for way in FORMATS if dtype in _NUMBERS and way != dtype))


@lru_cache(maxsize=1024)
def distinct_ways(file_dtype: str, dtype: str, ways: tuple[Way, ...]) -> tuple[Way, ...]:
    """Those that values of this file dtype can have taken, without the ones that change nothing on the way."""
    if dtype not in _NUMBERS or file_dtype not in _NUMBERS:
        return (STRAIGHT,) if dtype == file_dtype else ()
    # A cast to the dtype that the values have already, or to float32 of anything but float64, changes nothing.
    return tuple(way for way in ways if way is STRAIGHT or (way != file_dtype and (way != "float32" or file_dtype == "float64")))


def cast_values(values: Values, file_dtype: str, dtype: str, way: Way) -> Values:
    """What the file's values, comparable, are in memory, comparable, having come this way."""
    if way is STRAIGHT:
        if dtype == file_dtype or file_dtype in _HOLDS_ALL_OF.get(dtype, ()):
            return values
        return tuple([_cast_comparable(value, (dtype,)) for value in values])
    return tuple([_cast_comparable(value, (way, dtype)) for value in values])


def _cast_comparable(value: Value, way: Sequence[str]) -> Value:
    if isinstance(value, float):
        for dtype in way:
            value = round_to(value, dtype)
    return value
