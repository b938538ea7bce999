"""What a file's values may become on their way into memory, and what they may not."""

from __future__ import annotations

import math
import struct

import pytest

from gpumodels_shared.casting import DIRECT, agree, cast_values, comparable, distinct_routes, possible_routes
from gpumodels_shared.floats import FORMATS, decode_values, round_to


def test_float64_agrees_with_itself_and_unknown_dtypes_only_byte_for_byte() -> None:
    assert agree("float64", b"12345678", "float64", b"12345678")
    assert agree("uint8", b"1234", "uint8", b"1234")
    assert not agree("uint8", b"1234", "float32", b"1234")


def float32(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def float16(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}e", *values)


def bfloat16(*values: float) -> bytes:
    """Values that bfloat16 holds."""
    return b"".join(struct.pack("<f", value)[2:] for value in values)


def test_a_cast_agrees_and_what_it_lost_does_not_come_back() -> None:
    assert agree("float16", float16(0.1, -2.5), "float32", float32(0.1, -2.5))
    assert not agree("float32", float32(0.1, -2.5), "float16", float16(0.1, -2.5))
    assert agree("float32", float32(*struct.unpack("<2e", float16(0.1, -2.5))), "float16", float16(0.1, -2.5))


def test_a_cast_through_a_third_dtype_agrees_though_the_straight_one_does_not() -> None:
    in_file = float32(1.01, -3.3)
    through_bfloat16 = float16(1.0078125, -3.296875)
    assert float16(1.01, -3.3) != through_bfloat16
    assert agree("float16", through_bfloat16, "float32", in_file)


def test_values_agree_all_or_not_at_all_and_only_as_many_as_there_are() -> None:
    assert not agree("float32", float32(1.0, 2.0, 3.0), "float32", float32(1.0, 2.0, 4.0))
    assert not agree("float32", float32(1.0, 2.0), "float32", float32(1.0, 2.0, 3.0))
    assert not agree("float32", b"", "float32", b"")
    assert not agree("float32", float32(1.0) + b"\0", "float32", float32(1.0) + b"\0")


def test_what_is_no_number_is_one_value_and_agrees_with_itself() -> None:
    assert agree("bfloat16", bfloat16(math.nan, 1.0), "float32", float32(math.nan, 1.0))
    assert comparable("float32", float32(math.nan, -0.0)) == (None, 0.0)


def test_integers_and_unknown_dtypes_are_compared_as_bytes_and_with_their_own_only() -> None:
    assert comparable("int8", b"\1\2\3") == (b"\1\2\3",)
    assert comparable("int8", b"") == ()
    assert agree("float4_e2m1fn_x2", b"1234", "float4_e2m1fn_x2", b"1234")
    assert not agree("int8", b"1234", "uint8", b"1234")
    assert not agree("float32", b"1234", "int8", b"1234")


def test_values_that_a_dtype_cannot_hold_did_not_come_through_it() -> None:
    through_anything = possible_routes("float32", comparable("float32", float32(1.0, -2.5)))
    assert set(through_anything) == {DIRECT, "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"}
    assert possible_routes("float32", comparable("float32", float32(1.0, 0.1))) == (DIRECT,)
    assert set(possible_routes("float32", comparable("float32", float32(1e30)))) == {DIRECT}
    assert possible_routes("int8", comparable("int8", b"\1")) == (DIRECT,)


@pytest.mark.parametrize("file_dtype", ["float64", "float32", "float16", "bfloat16", "float8_e4m3fn"])
def test_ways_that_are_left_out_change_nothing(file_dtype: str) -> None:
    ways = (DIRECT, "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")
    kept = distinct_routes(file_dtype, "float16", ways)
    values = cast_values((0.1, 300.0, -1e-3, 65000.0), "float64", file_dtype, DIRECT)
    straight = cast_values(values, file_dtype, "float16", DIRECT)
    assert DIRECT in kept
    for way in set(ways) - set(kept):
        assert cast_values(values, file_dtype, "float16", way) == straight
    assert distinct_routes(file_dtype, "int8", ways) == ()


def test_a_cast_to_a_dtype_that_holds_all_of_the_files_values_leaves_them() -> None:
    values = comparable("float16", float16(0.1, 65504.0, math.inf))
    assert cast_values(values, "float16", "float32", DIRECT) is values
    assert cast_values(values, "float16", "bfloat16", DIRECT) == (0.10009765625, 65536.0, math.inf)
    assert cast_values((b"\1",), "int8", "int8", DIRECT) == (b"\1",)


@pytest.mark.parametrize("dtype", list(FORMATS))
@pytest.mark.parametrize("route", ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_a_route_that_values_took_is_always_thought_possible(route: str, dtype: str) -> None:
    """Every value of the dtype on the way, the largest and the subnormal ones included."""
    size = 1 if route.startswith("float8") else 2
    step = 1 if size == 1 else 37
    for bits in [*range(0, 1 << (8 * size), step), 0x7BFF, 0x7F7F, 0xFBFF]:
        (between,) = decode_values(route, (bits & ((1 << (8 * size)) - 1)).to_bytes(size, "little"))
        if math.isfinite(between):
            assert route == dtype or route in possible_routes(dtype, (round_to(between, dtype),))


def test_what_overflowed_on_the_way_agrees_with_the_file() -> None:
    in_file = struct.pack("<2d", 65504.0, 100000.0)
    assert possible_routes("bfloat16", (65536.0, math.inf))[-1] is not DIRECT
    assert "float16" in possible_routes("bfloat16", (65536.0, math.inf))
    assert agree("bfloat16", bfloat16(65536.0, math.inf), "float64", in_file)
