"""Simulates how loading casts a file's values: to the dtype in memory, directly or through one other dtype.

Rounding is to nearest, ties to even, and deterministic. Uses the standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

from gpumodels_shared.floats import FORMATS, ITEM_BYTES, decode_values, round_to

_CASTABLE: Final = frozenset({"float64", *FORMATS})
"""The dtypes whose values can be cast."""

Value = float | bytes | None
"""A value in comparable form: a number; None for NaN; the raw bytes of all values if their dtype can't be cast."""

Values = tuple[Value, ...]


def comparable(dtype: str, data: bytes) -> Values:
    """The elements in comparable form, NaN included; empty if the data is not a whole number of elements."""
    if dtype not in _CASTABLE:
        return (data,) if data else ()
    if len(data) % ITEM_BYTES[dtype]:
        return ()
    return tuple([None if value != value else value for value in decode_values(dtype, data)])


CastRoute = str | None
"""How values were cast to the dtype in memory: through this other dtype, or directly."""

DIRECT: Final = None

_EXACT_SOURCES: Final[Mapping[str, frozenset[str]]] = {
    "float64": frozenset(FORMATS),
    "float32": frozenset(("float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")),
    "float16": frozenset(("float8_e4m3fn", "float8_e5m2")),
    "bfloat16": frozenset(("float8_e4m3fn", "float8_e5m2")),
}
"""By dtype, the dtypes whose values it represents exactly: a cast from these changes nothing."""


def agree(sample_dtype: str, sample: bytes, file_dtype: str, in_file: bytes) -> bool:
    """Whether the file's values, cast once or twice, are the sample's.

    Args:
        sample_dtype: the dtype in memory.
        sample: the sample's raw elements.
        file_dtype: the dtype in the file.
        in_file: the file's raw elements.
    """
    values, file_values = comparable(sample_dtype, sample), comparable(file_dtype, in_file)
    if not values or len(values) != len(file_values):
        return False
    routes = distinct_routes(file_dtype, sample_dtype, all_routes(sample_dtype))
    # The first value alone decides in most cases; then all are compared.
    return any(
        cast_values(file_values[:1], file_dtype, sample_dtype, route) == values[:1]
        and cast_values(file_values, file_dtype, sample_dtype, route) == values
        for route in routes
    )


def possible_routes(dtype: str, values: Values) -> tuple[CastRoute, ...]:
    """The routes by which these values in memory can have been cast: values that went through a dtype survive it again.

    Except its largest: 65504, the largest float16, is 65536 as bfloat16, which float16 doesn't hold.
    """
    return tuple(
        route for route in all_routes(dtype) if route is DIRECT or all(_survives(value, route, dtype) for value in values)
    )


def _survives(value: Value, route: str, dtype: str) -> bool:
    if value == _cast_comparable(value, (route, dtype)):
        return True
    return isinstance(value, float) and abs(value) == round_to(FORMATS[route].largest, dtype)


@lru_cache(maxsize=64)
def all_routes(dtype: str) -> tuple[CastRoute, ...]:
    """Every route to this dtype, the direct one first."""
    return (DIRECT, *(route for route in FORMATS if dtype in _CASTABLE and route != dtype))


@lru_cache(maxsize=1024)
def distinct_routes(file_dtype: str, dtype: str, routes: tuple[CastRoute, ...]) -> tuple[CastRoute, ...]:
    """The routes among these that are possible from this file dtype, without indirect ones that equal the direct one."""
    if dtype not in _CASTABLE or file_dtype not in _CASTABLE:
        return (DIRECT,) if dtype == file_dtype else ()
    # A cast to the dtype that the values have already, or to float32 of anything but float64, changes nothing.
    return tuple(
        route for route in routes if route is DIRECT or (route != file_dtype and (route != "float32" or file_dtype == "float64"))
    )


def cast_values(values: Values, file_dtype: str, dtype: str, route: CastRoute) -> Values:
    """The file's values as they are in memory after this route, both in comparable form."""
    if route is DIRECT:
        if dtype == file_dtype or file_dtype in _EXACT_SOURCES.get(dtype, ()):
            return values
        return tuple([_cast_comparable(value, (dtype,)) for value in values])
    return tuple([_cast_comparable(value, (route, dtype)) for value in values])


def _cast_comparable(value: Value, dtypes: Sequence[str]) -> Value:
    """The value rounded to each of the dtypes in turn."""
    if isinstance(value, float):
        for dtype in dtypes:
            value = round_to(value, dtype)
    return value
