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
from itertools import islice
from typing import Final, Protocol

from gpumodels_shared.casting import Value, Values, Way, agree, cast_values, comparable, distinct_ways, plausible_ways
from gpumodels_shared.floats import ITEM_BYTES
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

    `prepare` is told of the keys that may be asked for, before the first is. `pause` is called every so often.
    """
    examined = keys_examined(keys, pause)
    prepare(examined)
    return samples_among(examined, sample, pause)


def keys_examined(keys: Iterable[str], pause: Callable[[], None] = lambda: None) -> Sequence[str]:
    """The keys of the tensors that samples are taken of, in that order: no others are asked for, whatever these say."""
    first: list[str] = []
    waiting = iter(keys)
    while some := list(islice(waiting, KEYS_PER_STEP)):
        first = heapq.nsmallest(TENSORS_EXAMINED, [*first, *some], key=rank)
        pause()
    return first


def samples_among(
    examined: Iterable[str], sample: Callable[[str], TensorSample | None], pause: Callable[[], None] = lambda: None
) -> tuple[TensorSample, ...]:
    """As many samples as are wanted, of the first tensors that say something."""
    chosen: list[TensorSample] = []
    for count, key in enumerate(examined, 1):
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


@dataclass(frozen=True, slots=True)
class SoughtSample:
    """A sample as it is compared: decoded once, for however many files."""

    key: str
    dtype: str
    shape: tuple[int, ...]
    values: Values
    ways: tuple[Way, ...]


def sought(fingerprint: Fingerprint) -> tuple[SoughtSample, ...]:
    """The fingerprint's samples, decoded."""
    return tuple(map(_sought, fingerprint.samples))


def _sought(sample: TensorSample) -> SoughtSample:
    values = comparable(sample.dtype, sample.data)
    return SoughtSample(sample.key, sample.dtype, tuple(sample.shape), values, plausible_ways(sample.dtype, values))


_Place = tuple[str, int]
"""A tensor's key, and the element where the sample's first may stand."""


class FileIndex:
    """A file's values, found by what they are: each is read once, and cast once for each way that it is asked for in.

    What a sample costs is a look-up, however many models are compared with the file.
    """

    def __init__(self, file: FileValues) -> None:
        self.file = file
        self._places = Places(file.tensors)
        self._stated: dict[_Place, Values] = {}
        self._firsts: dict[tuple[_Place, str, Way], Values] = {}
        self._cast: dict[tuple[_Place, str, Way], Values] = {}
        self._by_first: dict[tuple[tuple[int, ...], str, Way], dict[Value, list[tuple[int, _Place]]]] = {}

    def __len__(self) -> int:
        """How many tensors' values it keeps, read or cast: some 600 bytes each."""
        return len(self._stated) + len(self._firsts) + len(self._cast)

    def match(self, samples: Sequence[SoughtSample]) -> Match:
        """How many of them agree; counting ends where fewer than a third can: such a file is none of it."""
        names = Places(self.file.tensors)
        matched = 0
        for number, sample in enumerate(samples):
            if 3 * (number - matched) > 2 * len(samples):
                break
            key = self._key_of(sample, names.named(sample.key, sample.shape))
            if key is not None:
                names.found(sample.key, key)
                matched += 1
        return Match(matched, len(samples))

    def _key_of(self, sample: SoughtSample, named: str | None) -> str | None:
        """The tensor that the sample agrees with: the one of its name, or the first of all that are alike."""
        if not sample.values:
            return None
        if named is not None:
            ways = distinct_ways(self.file.tensors[named][0], sample.dtype, sample.ways)
            return named if any(self._holds((named, 0), sample, way) for way in ways) else None
        found: list[tuple[int, _Place]] = []
        for way in sample.ways:
            alike = self._alike(sample.shape, sample.dtype, way).get(sample.values[0], ())
            found += [(order, place) for order, place in alike if self._holds(place, sample, way)]
        return min(found)[1][0] if found else None

    def _holds(self, place: _Place, sample: SoughtSample, way: Way) -> bool:
        """Whether the sample is what stands there, cast this way: by its first value, which tells most apart, then by all."""
        if self._first(place, sample.dtype, way) != sample.values[:1]:
            return False
        asked = (place, sample.dtype, way)
        found = self._cast.get(asked)
        if found is None:
            found = self._cast[asked] = cast_values(self._read(place), self._dtype(place), sample.dtype, way)
        return found == sample.values

    def _alike(self, shape: tuple[int, ...], dtype: str, way: Way) -> Mapping[Value, Sequence[tuple[int, _Place]]]:
        """Where a tensor of this shape may stand, in order, by what the first value there is, cast this way."""
        found = self._by_first.get((shape, dtype, way))
        if found is None:
            found = self._by_first[shape, dtype, way] = {}
            for order, key in enumerate(self._places.alike(shape)):
                if way in distinct_ways(self.file.tensors[key][0], dtype, (way,)):
                    for start in _starts(shape, self.file.tensors[key][1]):
                        for value in self._first((key, start), dtype, way):
                            found.setdefault(value, []).append((order, (key, start)))
        return found

    def _first(self, place: _Place, dtype: str, way: Way) -> Values:
        asked = (place, dtype, way)
        found = self._firsts.get(asked)
        if found is None:
            found = self._firsts[asked] = cast_values(self._read(place)[:1], self._dtype(place), dtype, way)
        return found

    def _read(self, place: _Place) -> Values:
        found = self._stated.get(place)
        if found is None:
            found = self._stated[place] = comparable(self._dtype(place), self.file.read(*place, VALUES))
        return found

    def _dtype(self, place: _Place) -> str:
        return self.file.tensors[place[0]][0]


def compare(fingerprint: Fingerprint, file: FileValues) -> Match:
    """How many of the samples agree with the file. For several fingerprints make one `FileIndex`."""
    return FileIndex(file).match(sought(fingerprint))


def may_hold(shapes: Iterable[tuple[int, ...]], wanted: Sequence[tuple[int, ...]]) -> bool:
    """Whether half of the samples, by shape, have a tensor that they could be from: less is no match, whatever the values."""
    heights: dict[tuple[int, ...], list[int]] = {}
    for shape in shapes:
        if shape:
            heights.setdefault(shape[1:], []).append(shape[0])
    places = sum(any(_is_within(shape[0], height) for height in heights.get(shape[1:], ())) for shape in wanted if shape)
    return places > 0 and 2 * places >= len(wanted)


def _is_within(one: int, other: int) -> bool:
    """Whether tensors so high may be the same, or one of them a part of the other."""
    return one == other or 0 < max(one, other) <= FUSED_AT_MOST * min(one, other)


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


def rank(key: str) -> tuple[int, str]:
    """By which keys are ordered whose tensors are looked at first: no period of the layers can bias it."""
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
        if larger > FUSED_AT_MOST * smaller or len(wanted) < 2 or 0 in wanted:
            return
        if in_file[0] == smaller:
            yield 0  # the first of several that were joined in memory
        elif larger % smaller == 0:
            yield from range(0, math.prod(in_file), math.prod(wanted))
