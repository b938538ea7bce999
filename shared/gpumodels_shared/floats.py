"""Decodes floating-point formats, and rounds numbers to them. Uses the standard library only."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

ITEM_BYTES: Final[Mapping[str, int]] = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "float8_e4m3fn": 1,
    "float8_e5m2": 1,
    "uint8": 1,
    "int8": 1,
}
"""Bytes per element of the dtypes that can be sampled, by torch's names. Integers (quantized blocks) are compared bytewise."""


@dataclass(frozen=True, slots=True)
class _Format:
    """The properties of a binary floating-point format that rounding needs."""

    fraction_bits: int
    least_exponent: int
    """The least exponent of normal numbers."""
    largest: float
    overflow: float
    """What torch makes of infinity and of values beyond the largest (older versions: NaN in E4M3)."""


FORMATS: Final[Mapping[str, _Format]] = {
    "float32": _Format(23, -126, 3.4028234663852886e38, math.inf),
    "float16": _Format(10, -14, 65504.0, math.inf),
    "bfloat16": _Format(7, -126, 3.3895313892515355e38, math.inf),
    "float8_e4m3fn": _Format(3, -6, 448.0, 448.0),
    "float8_e5m2": _Format(2, -14, 57344.0, math.inf),
}


def decode_values(dtype: str, data: bytes) -> tuple[float, ...]:
    """The raw elements as numbers.

    Raises:
        KeyError: the dtype can't be decoded.
    """
    count = len(data) // ITEM_BYTES[dtype]
    if dtype == "bfloat16":
        return tuple(_from_bits(bits << 16) for bits in struct.unpack(f"<{count}H", data))
    if dtype in ("float8_e4m3fn", "float8_e5m2"):
        return tuple(_FROM_FLOAT8[dtype][byte] for byte in data)
    return struct.unpack(f"<{count}{ {'float64': 'd', 'float32': 'f', 'float16': 'e'}[dtype] }", data)


def round_to(value: float, dtype: str) -> float:
    """The value rounded to this dtype: to nearest, ties to even, with torch's overflow; float64 leaves it unchanged."""
    form = FORMATS.get(dtype)
    if form is None or value == 0 or math.isnan(value):
        return value
    if math.isinf(value):
        return math.copysign(form.overflow, value)
    exponent = max(math.frexp(value)[1] - 1, form.least_exponent)
    step = exponent - form.fraction_bits
    rounded = math.ldexp(round(math.ldexp(value, -step)), step)
    if abs(rounded) > form.largest:
        return math.copysign(form.overflow, value)
    return rounded


def _from_bits(bits: int) -> float:
    value: float = struct.unpack("<f", struct.pack("<I", bits))[0]
    return value


def _float8(byte: int, exponent_bits: int, fraction_bits: int, bias: int, infinite: bool) -> float:
    """One byte of an OCP 8-bit float: E4M3 has no infinities and one NaN, E5M2 is IEEE-like."""
    sign = -1.0 if byte & 0x80 else 1.0
    exponent = (byte >> fraction_bits) & ((1 << exponent_bits) - 1)
    fraction = byte & ((1 << fraction_bits) - 1)
    if exponent == (1 << exponent_bits) - 1:
        if infinite:
            return math.nan if fraction else sign * math.inf
        if fraction == (1 << fraction_bits) - 1:
            return math.nan
    if exponent == 0:
        return sign * math.ldexp(fraction, 1 - bias - fraction_bits)
    return sign * math.ldexp((1 << fraction_bits) + fraction, exponent - bias - fraction_bits)


_FROM_FLOAT8: Final = {
    "float8_e4m3fn": tuple(_float8(byte, 4, 3, 7, infinite=False) for byte in range(256)),
    "float8_e5m2": tuple(_float8(byte, 5, 2, 15, infinite=True) for byte in range(256)),
}
