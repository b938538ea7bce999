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
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Final, Protocol

from gpumodels_shared.floats import FORMATS, ITEM_BYTES, decode_values, round_to
from gpumodels_shared.schema import Fingerprint, TensorSample

TENSORS: Final = 16
TENSORS_EXAMINED: Final = 256
"""How many are looked at for as many as that: a model may begin with tensors of zeros."""
KEYS_PER_STEP: Final = 500
VALUES: Final = 16
FUSED_AT_MOST: Final = 8
"""How many tensors may have been joined into one along their first dimension."""
COARSE_CLOCK_NS: Final = 20_000_000
"""File systems stamp by a clock that ticks every 1 to 10 ms: a file may be so much younger than it says."""
SAME_SHAPES_AT_MOST: Final = 4000
"""Where keys were renamed, so many tensors of one shape are looked at."""

_WAYS: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    dtype: ((dtype,), *((between, dtype) for between in FORMATS if between != dtype)) for dtype in ("float64", *FORMATS)
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


class Places:
    """Where in a file a tensor may stand: under its key, below a prefix, or under any other where keys were renamed."""

    def __init__(self, tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
        self._tensors = tensors
        self._prefix = ""
        self._by_trailing_shape: dict[tuple[int, ...], list[str]] = {}

    def named(self, key: str, shape: tuple[int, ...]) -> str | None:
        """The one place, where the file knows the key."""
        for prefix in ("", self._prefix):
            found = self._tensors.get(prefix + key)
            if found is not None and found[1] == shape:
                return prefix + key
        return None

    def alike(self, shape: tuple[int, ...]) -> Sequence[str]:
        """Tensors that have such a shape, or are made of such, or are a part of one."""
        if not self._by_trailing_shape:
            for key, (_, in_file) in self._tensors.items():
                self._by_trailing_shape.setdefault(in_file[1:], []).append(key)
        return self._by_trailing_shape.get(shape[1:], ())[:SAME_SHAPES_AT_MOST]

    def found(self, key: str, in_file: str) -> None:
        """The tensor of this key stood under that one: others may be renamed alike."""
        if in_file.endswith("." + key):
            self._prefix = in_file[: -len(key)]


def compare(fingerprint: Fingerprint, file: FileValues) -> Match:
    """How many of the samples agree with the file; counting ends where fewer than a third can: such a file is none of it."""
    places = Places(file.tensors)
    matched = 0
    for number, sample in enumerate(fingerprint.samples):
        if 3 * (number - matched) > 2 * len(fingerprint.samples):
            break
        named = places.named(sample.key, sample.shape)
        for key in places.alike(sample.shape) if named is None else (named,):
            if agrees(sample, file, key):
                places.found(sample.key, key)
                matched += 1
                break
    return Match(matched, len(fingerprint.samples))


def best_files(matches: Mapping[str, Match]) -> tuple[str, ...]:
    """The files that agree best, all of them on a tie; none where nothing agrees well enough.

    Where some samples agree with one file and as many as half of these, which may be the others, with another, the model may be
    made of both: that is a tie, too.
    """
    worthy = {path: match for path, match in matches.items() if match.is_whole or match.is_patched}
    best = max((match.matched for match in worthy.values()), default=0)
    found = {path for path, match in worthy.items() if match.matched == best}
    if found:
        compared = max(matches[path].compared for path in found)
        found.update(path for path, match in matches.items() if 2 * match.matched > best and match.matched + best <= compared)
    return tuple(sorted(found))


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


def _rank(key: str) -> tuple[int, str]:
    return zlib.crc32(key.encode("utf-8", "backslashreplace")), key


def agrees(sample: TensorSample, file: FileValues, key: str) -> bool:
    """Whether the sample is from this tensor of the file, or from a part of it, or from what was made of it and others."""
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
