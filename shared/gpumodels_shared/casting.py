"""What a file's values become when they are loaded: cast to the dtype in memory, at most once through another dtype on the way.

Rounding is to nearest, ties to even, and deterministic. Of the standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

from gpumodels_shared.floats import FORMATS, ITEM_BYTES, decode_values, round_to

_WAYS: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    dtype: ((dtype,), *((between, dtype) for between in FORMATS if between != dtype)) for dtype in ("float64", *FORMATS)
}
"""What the values may have been cast to, in order: the dtype in memory, or another one first."""

Value = float | bytes | None
"""As it is compared: a number; None for NaN; the raw bytes of all values where their dtype holds no numbers that can be cast."""

Values = tuple[Value, ...]


def agree(sample_dtype: str, sample: bytes, file_dtype: str, in_file: bytes) -> bool:
    """Whether the file's values become the sample's, cast once or twice."""
    if sample_dtype == file_dtype and sample == in_file:
        return True
    if sample_dtype not in _WAYS or file_dtype not in _WAYS:
        return False
    if not in_file or len(sample) // ITEM_BYTES[sample_dtype] != len(in_file) // ITEM_BYTES[file_dtype]:
        return False
    wanted, ways = _plausible_ways(sample_dtype, sample, file_dtype)
    first = decode_values(file_dtype, in_file[: ITEM_BYTES[file_dtype]])[0]
    ways = tuple(way for way in ways if _same(wanted[0], _cast(first, way)))
    if not ways:
        return False
    stated = decode_values(file_dtype, in_file)
    return any(_become(wanted, stated, way) for way in ways)


def comparable(dtype: str, data: bytes) -> Values:
    """The elements in the form in which equal ones are equal, and hash alike; nothing where there is no whole element."""
    if dtype not in _WAYS:
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


def plausible_ways(dtype: str, values: Values) -> tuple[Way, ...]:
    """By which of them these values, in memory in this dtype, can have come: what went through another is still exact in it."""
    between = [
        way
        for way in (FORMATS if dtype in _WAYS else ())
        if way != dtype and all(value == _cast_comparable(value, (way, dtype)) for value in values)
    ]
    return (STRAIGHT, *between)


@lru_cache(maxsize=1024)
def distinct_ways(file_dtype: str, dtype: str, ways: tuple[Way, ...]) -> tuple[Way, ...]:
    """Those that values of this file dtype can have taken, without the ones that change nothing on the way."""
    if dtype not in _WAYS or file_dtype not in _WAYS:
        return (STRAIGHT,) if dtype == file_dtype else ()
    return tuple(way for way in ways if way is STRAIGHT or (way, dtype) in _distinct_ways(file_dtype, dtype))


def cast_values(values: Values, file_dtype: str, dtype: str, way: Way) -> Values:
    """What the file's values, comparable, are in memory, comparable, having come this way."""
    if way is STRAIGHT:
        if dtype == file_dtype or file_dtype in _HOLDS_ALL_OF.get(dtype, ()):
            return values
        return tuple([_cast_comparable(value, (dtype,)) for value in values])
    return tuple([_cast_comparable(value, (way, dtype)) for value in values])


@lru_cache(maxsize=256)
def _distinct_ways(file_dtype: str, dtype: str) -> tuple[tuple[str, ...], ...]:
    """Without the casts to the dtype that the values have already, or to float32 of anything but float64: they change nothing."""
    return tuple(
        way
        for way in _WAYS[dtype]
        if len(way) == 1 or (way[0] != file_dtype and (way[0] != "float32" or file_dtype == "float64"))
    )


@lru_cache(maxsize=1024)
def _plausible_ways(dtype: str, sample: bytes, file_dtype: str) -> tuple[tuple[float, ...], tuple[tuple[str, ...], ...]]:
    """The sample's values, and the casts that can have made them: what went through a narrower dtype is still exact in it."""
    values = decode_values(dtype, sample)
    ways = tuple(
        way
        for way in _distinct_ways(file_dtype, dtype)
        if len(way) == 1 or all(_same(value, round_to(round_to(value, way[0]), dtype)) for value in values)
    )
    return values, ways


def _become(wanted: Sequence[float], stated: Sequence[float], way: Sequence[str]) -> bool:
    return all(_same(target, _cast(value, way)) for target, value in zip(wanted, stated, strict=True))


def _cast_comparable(value: Value, way: Sequence[str]) -> Value:
    return _cast(value, way) if isinstance(value, float) else value


def _cast(value: float, way: Sequence[str]) -> float:
    for dtype in way:
        value = round_to(value, dtype)
    return value


def _same(one: float, other: float) -> bool:
    return one == other or (one != one and other != other)
