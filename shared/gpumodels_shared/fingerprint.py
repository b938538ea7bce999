"""Which file a model's values are from: a few values of a few tensors, compared through the casts that loading may do.

A sample is the first `VALUES` elements of a tensor in its logical (row-major) order, as raw little-endian bytes of its own
dtype: what a safetensors file holds at the tensor's offset. A fingerprint is up to `TENSORS` samples: of a model's
parameters of at least `VALUES` elements, those whose keys have the smallest CRC-32 (which no period of the layers can bias);
constant samples (norms, padding) say nothing and are left out.

A sample agrees with a tensor of a file if the file's values, rounded to nearest-even into the dtype in memory, at most once
through another dtype on the way (float32 file, cast to bfloat16, kept as float16), are exactly the sample's. Rounding is
deterministic, so the right file always agrees in full; what can't be told apart in a narrow dtype agrees as fully, and is a tie.
Keys may have been renamed (then any tensor of that shape will do) and projections fused or split: q, k, v are looked for at
whole multiples of their size in a larger tensor, and at the start of a smaller one.

Pure, and of the standard library only: the sidecar compares with the files that its process read, the viewer with all others.
"""

from __future__ import annotations

import heapq
import math
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Final, Protocol

from gpumodels_shared.schema import Fingerprint, TensorSample

TENSORS: Final = 16
TENSORS_EXAMINED: Final = 256
"""How many are looked at for as many as that: a model may begin with tensors of zeros."""
KEYS_PER_STEP: Final = 500
VALUES: Final = 16
FUSED_AT_MOST: Final = 8
"""How many tensors may have been joined into one along their first dimension."""
SAME_SHAPES_AT_MOST: Final = 4000
"""Where keys were renamed, so many tensors of one shape are looked at."""

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
"""Bytes per element of the dtypes that can be sampled, by torch's names. Integers (quantized blocks) agree only byte for byte."""


@dataclass(frozen=True, slots=True)
class _Format:
    """A binary floating-point format: what rounding needs of it."""

    fraction_bits: int
    least_exponent: int
    largest: float
    overflow: float
    """What torch makes of a value beyond the largest or of infinity (an older one: NaN in E4M3)."""


_FORMATS: Final[Mapping[str, _Format]] = {
    "float32": _Format(23, -126, 3.4028234663852886e38, math.inf),
    "float16": _Format(10, -14, 65504.0, math.inf),
    "bfloat16": _Format(7, -126, 3.3895313892515355e38, math.inf),
    "float8_e4m3fn": _Format(3, -6, 448.0, 448.0),
    "float8_e5m2": _Format(2, -14, 57344.0, math.inf),
}

_WAYS: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    dtype: ((dtype,), *((between, dtype) for between in _FORMATS if between != dtype)) for dtype in ("float64", *_FORMATS)
}
"""What the values may have been cast to, in order: the dtype in memory, or another one first."""


class FileValues(Protocol):
    """A model file, as far as comparing needs it."""

    @property
    def tensors(self) -> Mapping[str, tuple[str, tuple[int, ...]]]:
        """(dtype, shape) by key; dtypes by torch's names."""
        ...

    def read(self, key: str, start: int, count: int) -> bytes:
        """So many elements of the tensor from this one on, raw; empty where they can't be had."""
        ...


@dataclass(frozen=True, slots=True)
class Match:
    """How much of a fingerprint agrees with a file."""

    matched: int
    compared: int

    @property
    def is_whole(self) -> bool:
        """Every sample agrees, and there are enough of them to mean something."""
        return self.matched == self.compared and self.compared >= 1

    @property
    def is_patched(self) -> bool:
        """Most samples agree: the file's weights, with something merged into some of them."""
        return not self.is_whole and self.matched >= 3 and 2 * self.matched >= self.compared


def choose_samples(
    keys: Iterable[str],
    sample: Callable[[str], TensorSample | None],
    pause: Callable[[], None] = lambda: None,
    prepare: Callable[[Sequence[str]], None] = lambda keys: None,
) -> tuple[TensorSample, ...]:
    """The samples of a fingerprint: in order of their keys' CRC-32, as many as are wanted and say something.

    `prepare` is told of the keys that may be asked for, before the first is. `pause` is called every so often. Tensors beyond
    the first TENSORS_EXAMINED are not asked for, whatever those said.
    """
    first: list[str] = []
    waiting = iter(keys)
    while some := list(islice(waiting, KEYS_PER_STEP)):
        first = heapq.nsmallest(TENSORS_EXAMINED, [*first, *some], key=_rank)
        pause()
    prepare(first)
    chosen: list[TensorSample] = []
    for count, key in enumerate(first, 1):
        taken = sample(key)
        if taken is not None and not is_constant(taken.data, taken.dtype):
            chosen.append(taken)
            if len(chosen) == TENSORS:
                break
        if count % TENSORS == 0:
            pause()
    return tuple(chosen)


def is_constant(data: bytes, dtype: str) -> bool:
    """Whether all sampled elements are the same (bit for bit, which is enough)."""
    size = ITEM_BYTES.get(dtype, 1)
    return data == data[:size] * (len(data) // size)


def compare(fingerprint: Fingerprint, file: FileValues) -> Match:
    """How many of the samples agree with the file; counting ends where too many don't for the rest to matter."""
    by_trailing_shape: dict[tuple[int, ...], list[str]] = {}
    matched = 0
    for number, sample in enumerate(fingerprint.samples):
        if 2 * (number - matched) > len(fingerprint.samples):
            break
        named = file.tensors.get(sample.key)
        if named is not None and named[1] == sample.shape:
            matched += _agrees(sample, file, sample.key)
            continue
        if not by_trailing_shape:
            for key, (_, shape) in file.tensors.items():
                by_trailing_shape.setdefault(shape[1:], []).append(key)
        if any(_agrees(sample, file, key) for key in by_trailing_shape.get(sample.shape[1:], ())[:SAME_SHAPES_AT_MOST]):
            matched += 1
    return Match(matched, len(fingerprint.samples))


def best_files(matches: Mapping[str, Match]) -> tuple[str, ...]:
    """The files that agree best, all of them on a tie; none where nothing agrees well enough."""
    worthy = {path: match for path, match in matches.items() if match.is_whole or match.is_patched}
    best = max((match.matched for match in worthy.values()), default=0)
    return tuple(sorted(path for path, match in worthy.items() if match.matched == best))


def same_names_and_shapes(wanted: Mapping[str, tuple[int, ...]], file: Mapping[str, tuple[str, tuple[int, ...]]]) -> bool:
    """Whether the file has a tensor of that shape for every key, under the key itself or below one common prefix."""
    if not wanted:
        return False
    first = next(iter(wanted))
    prefixes = [key[: -len(first)] for key in file if key == first or key.endswith("." + first)]
    return any(
        all((found := file.get(prefix + key)) and found[1] == shape for key, shape in wanted.items()) for prefix in prefixes
    )


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


def decode_values(dtype: str, data: bytes) -> tuple[float, ...]:
    """The elements as numbers.

    Raises:
        KeyError: the dtype is none of ITEM_BYTES.
    """
    count = len(data) // ITEM_BYTES[dtype]
    if dtype == "bfloat16":
        return tuple(_from_bits(bits << 16) for bits in struct.unpack(f"<{count}H", data))
    if dtype in ("float8_e4m3fn", "float8_e5m2"):
        return tuple(_FROM_FLOAT8[dtype][byte] for byte in data)
    return struct.unpack(f"<{count}{ {'float64': 'd', 'float32': 'f', 'float16': 'e'}[dtype] }", data)


def round_to(value: float, dtype: str) -> float:
    """The value as this dtype holds it: nearest, ties to even, with torch's overflow; float64 holds any."""
    form = _FORMATS.get(dtype)
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


def _rank(key: str) -> tuple[int, str]:
    return zlib.crc32(key.encode("utf-8", "backslashreplace")), key


def _agrees(sample: TensorSample, file: FileValues, key: str) -> bool:
    dtype, shape = file.tensors[key]
    return any(agree(sample.dtype, sample.data, dtype, file.read(key, start, VALUES)) for start in _starts(sample.shape, shape))


def _starts(wanted: Sequence[int], in_file: Sequence[int]) -> Iterator[int]:
    """Where in the file's tensor the sample's first element may stand."""
    if tuple(wanted) == tuple(in_file):
        yield 0
    elif wanted and in_file and tuple(wanted[1:]) == tuple(in_file[1:]) and wanted[0] and in_file[0]:
        smaller, larger = sorted((wanted[0], in_file[0]))
        if larger > FUSED_AT_MOST * smaller or len(wanted) < 2:
            return
        if in_file[0] == smaller:
            yield 0  # the first of several that were joined in memory
        elif larger % smaller == 0:
            yield from range(0, math.prod(in_file), math.prod(wanted))


@lru_cache(maxsize=1024)
def _plausible_ways(dtype: str, sample: bytes, file_dtype: str) -> tuple[tuple[float, ...], tuple[tuple[str, ...], ...]]:
    """The sample's values, and the casts that can have made them: what went through a narrower dtype is still exact in it.

    A cast to the dtype that the values have already, or to float32 of anything but float64, changes nothing.
    """
    values = decode_values(dtype, sample)
    ways = tuple(
        way
        for way in _WAYS[dtype]
        if len(way) == 1 or (way[0] != file_dtype and (way[0] != "float32" or file_dtype == "float64"))
        if len(way) == 1 or all(_same(value, round_to(round_to(value, way[0]), dtype)) for value in values)
    )
    return values, ways


def _become(wanted: Sequence[float], stated: Sequence[float], way: Sequence[str]) -> bool:
    return all(_same(target, _cast(value, way)) for target, value in zip(wanted, stated, strict=True))


def _cast(value: float, way: Sequence[str]) -> float:
    for dtype in way:
        value = round_to(value, dtype)
    return value


def _same(one: float, other: float) -> bool:
    return one == other or (one != one and other != other)


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
