"""Finds the file that a model's values came from, by comparing a few values of a few tensors, allowing for casts by loading.

A sample is the first `VALUES` elements of a tensor in its logical (row-major) order, as raw little-endian bytes of its own
dtype: what a safetensors file holds at the tensor's offset. A fingerprint is up to `TENSORS` samples: of a model's
parameters of at least `VALUES` elements, those whose keys have the smallest CRC-32 (so that repeating layers don't bias the
choice); constant samples (norms, padding) distinguish nothing and are left out. Tensors so large that the others don't stand for
them (`LARGE_SHARE`) are sampled besides: a file is a model's if most of the elements agree, however many small tensors do.

A sample agrees with a tensor of a file if the file's values, rounded to nearest-even to the dtype in memory, directly or through
one other dtype (float32 file, cast to bfloat16, kept as float16), are exactly the sample's. Rounding is deterministic, so the
right file always agrees completely; files that can't be distinguished in a narrow dtype agree completely as well, and tie.
Keys may have been renamed (then any tensor of that shape will do) and projections fused or split: q, k, v are searched for at
whole multiples of their size in a larger tensor, and at the start of a smaller one; so are matrices that were stacked. Where a
tensor was evidently made from others in yet another way, it isn't compared.

Pure functions, standard library only: the sidecar compares with the files that its process read, the viewer with all others.
"""

from __future__ import annotations

import heapq
import math
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final, Protocol

from gpumodels_shared.casting import (
    DIRECT,
    CastRoute,
    Value,
    Values,
    agree,
    all_routes,
    cast_values,
    comparable,
    distinct_routes,
    possible_routes,
)
from gpumodels_shared.floats import ITEM_BYTES
from gpumodels_shared.schema import Fingerprint, TensorSample

TENSORS: Final = 16
TENSORS_EXAMINED: Final = 256
"""The most tensors examined to find TENSORS samples: a model may begin with tensors of zeros."""
KEYS_PER_STEP: Final = 500
VALUES: Final = 16
LARGE_SHARE: Final = 1 / 32
"""The share of a model's elements from which on a tensor may be large."""
LARGER_THAN_MEAN: Final = 4
"""How many times as large as the mean it must be: others stand for those that aren't."""
MAX_LARGE: Final = TENSORS
"""The most samples that are taken of large tensors alone."""
MOST_OF_A_FEW: Final = 3
"""The fewest samples that must agree where others don't."""
FUSED_AT_MOST: Final = 8
"""The most tensors that may have been fused into one along their first dimension."""
STACKED_AT_MOST: Final = 64
"""The most matrices that are searched for in a stack of them."""
COARSE_CLOCK_NS: Final = 20_000_000
"""Tolerance for file times: file systems use a clock that ticks every 1 to 10 ms, so a file may be newer than it says."""
PATH_LEVELS: Final = 3
"""How far below a module its tensors are searched for: `experts.0.gate_proj.weight` are in `experts`."""
NUMBERS: Final = frozenset({"float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"})
"""The dtypes that hold weights as they are; others hold what they were quantized to."""
ROUNDING: Final = 1e-6
"""What sums of elements may differ by though they are equal."""
SAME_SHAPES_AT_MOST: Final = 4000
"""The most tensors of a shape that are compared if keys were renamed."""


class FileValues(Protocol):
    """What comparing needs of a model file."""

    @property
    def tensors(self) -> Mapping[str, tuple[str, tuple[int, ...]]]:
        """(dtype, shape) by key; dtypes by torch's names."""
        ...

    def read(self, key: str, start: int, count: int) -> bytes:
        """The raw bytes of up to `count` elements of the tensor from element `start` on; empty if they can't be read."""
        ...


@dataclass(frozen=True, slots=True)
class Match:
    """How many samples of a fingerprint agree with a file, and what they stand for."""

    matched: int
    compared: int
    matched_elements: float | None = field(default=None, compare=False)
    """About how many of the model's elements the samples that agree stand for; None: all samples stand for as many."""
    compared_elements: float | None = field(default=None, compare=False)
    """The same of all that were compared."""
    changed_elements: float = field(default=0.0, compare=False)
    """The same of those that don't agree but are plainly made of the file's, where that was found out."""

    @property
    def is_full(self) -> bool:
        """Every sample agrees, and there is at least one."""
        return self.matched == self.compared and self.compared >= 1

    @property
    def is_patched(self) -> bool:
        """The larger part is the file's, and 3 samples agree: its weights, with something merged into some of them."""
        is_mostly_kept = 2 * (self.weight + self.changed_elements) > self.compared_weight
        return not self.is_full and self.matched >= MOST_OF_A_FEW and is_mostly_kept

    @property
    def weight(self) -> float:
        """By which matches of one model with several files are compared: what agrees."""
        return self.matched if self.matched_elements is None else self.matched_elements

    @property
    def compared_weight(self) -> float:
        """What was compared, in the same unit."""
        return self.compared if self.compared_elements is None else self.compared_elements


def choose_samples(
    elements: Mapping[str, int],
    sample: Callable[[str], TensorSample | None],
    pause: Callable[[], None] = lambda: None,
) -> tuple[TensorSample, ...]:
    """The samples of a fingerprint: up to TENSORS that aren't constant, in order of their keys' CRC-32, then the large ones.

    Args:
        elements: the number of elements of each of the model's parameters, by key.
        sample: takes the sample of a key; None if it can't.
        pause: called at regular intervals.
    """
    return samples_among(keys_examined(elements, pause), sample, pause, large_keys(elements))


def keys_examined(keys: Iterable[str], pause: Callable[[], None] = lambda: None) -> Sequence[str]:
    """The keys that may be sampled, in order of preference: TENSORS_EXAMINED at most."""
    first: list[str] = []
    iterator = iter(keys)
    while batch := list(islice(iterator, KEYS_PER_STEP)):
        first = heapq.nsmallest(TENSORS_EXAMINED, [*first, *batch], key=rank)
        pause()
    return first


def large_keys(elements: Mapping[str, int]) -> Sequence[str]:
    """The keys of tensors so large that they are always sampled, in order of their keys' CRC-32: MAX_LARGE at most."""
    least = max(LARGE_SHARE, LARGER_THAN_MEAN / max(len(elements), 1)) * sum(elements.values())
    large = [key for key, count in elements.items() if count >= least > 0]
    return sorted(heapq.nlargest(MAX_LARGE, large, elements.__getitem__), key=rank)


def samples_among(
    examined: Iterable[str],
    sample: Callable[[str], TensorSample | None],
    pause: Callable[[], None] = lambda: None,
    large: Collection[str] = (),
    at_most: int = TENSORS,
) -> tuple[TensorSample, ...]:
    """Samples of the first tensors that aren't constant, up to `at_most`, then of the large ones; see `choose_samples`."""
    chosen: list[TensorSample] = []
    for count, key in enumerate(examined, 1):
        taken = None if key in large else sample(key)
        if taken is not None and not is_constant(taken.data, taken.dtype):
            chosen.append(taken)
            if len(chosen) == at_most:
                break
        if count % TENSORS == 0:
            pause()
    for key in large:
        taken = sample(key)
        if taken is not None and not is_constant(taken.data, taken.dtype):
            chosen.append(taken)
    return tuple(chosen)


def elements_of(samples: Sequence[TensorSample | DecodedSample], large: Collection[str] | None = None) -> Sequence[float]:
    """How many of the model's elements each sample stands for: about, where not all tensors were sampled.

    Each of those that were chosen by their keys' CRC-32 stands for others that weren't. For how many, the last CRC-32 tells: it
    is the smaller, the more there were to choose from. The large tensors stand for themselves alone.

    Args:
        samples: as `samples_among` chose them.
        large: the keys of the large ones; None: all after the first TENSORS.
    """
    sizes = [math.prod(sample.shape) for sample in samples]
    by_key = [number for number, one in enumerate(samples) if (number < TENSORS if large is None else one.key not in large)]
    if len(by_key) < TENSORS or len(by_key) == len(samples):
        return sizes
    for_each = 2**32 / (rank(samples[by_key[-1]].key)[0] + 1)
    return [size * for_each if number in by_key else size for number, size in enumerate(sizes)]


def is_constant(data: bytes, dtype: str) -> bool:
    """Whether all sampled elements are equal, bit for bit."""
    size = ITEM_BYTES.get(dtype, 1)
    return data == data[:size] * (len(data) // size)


class TensorFinder:
    """Finds a model's tensors in a file: under their key, below a common prefix, or under any key if keys were renamed."""

    def __init__(self, tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
        self._tensors = tensors
        self._prefix = ""
        self._by_trailing_shape: dict[tuple[int, ...], list[str]] = {}
        self._folders: set[str] = set()
        """The dotted paths of which tensors are at most PATH_LEVELS below."""

    def named(self, key: str, shape: tuple[int, ...]) -> str | None:
        """The file's key for the tensor, if it is the same or has the known prefix, and the shape agrees; else None."""
        for prefix in ("", self._prefix):
            found = self._tensors.get(prefix + key)
            if found is not None and found[1] == shape:
                return prefix + key
        return None

    def alike(self, shape: tuple[int, ...]) -> Sequence[str]:
        """Keys of tensors that agree in all dimensions but the first: they may be the same, fused from such, or a part of one.

        Of a matrix also stacks of such matrices, and of a stack the matrices that it may consist of.
        """
        if not self._by_trailing_shape:
            for key, (_, in_file) in self._tensors.items():
                self._by_trailing_shape.setdefault(in_file[1:], []).append(key)
                if len(in_file) == 3:
                    self._by_trailing_shape.setdefault(in_file[2:], []).append(key)
        found: Sequence[str] = self._by_trailing_shape.get(shape[1:], ())
        if len(shape) == 3:
            found = [*found, *self._by_trailing_shape.get(shape[2:], ())]
        return found[:SAME_SHAPES_AT_MOST]

    def without_prefix(self) -> TensorFinder:
        """A finder for another model in the same file, which doesn't go through the file's tensors again."""
        other = TensorFinder(self._tensors)
        other._by_trailing_shape, other._folders = self._by_trailing_shape, self._folders
        return other

    def was_converted(self, key: str) -> bool:
        """Whether the tensor, not found in the file, was evidently made from others there: the file knows its place in the model.

        Then what it was made from, and how, isn't known, and that it differs says nothing.
        """
        if not self._folders:
            for in_file in self._tensors:
                for _ in range(PATH_LEVELS):
                    in_file, _, _ = in_file.rpartition(".")
                    self._folders.add(in_file)
        module, _, _ = (self._prefix + key).rpartition(".")
        parent, _, _ = module.rpartition(".")
        return any(folder and folder in self._folders for folder in (module, parent))

    def found(self, key: str, in_file: str) -> None:
        """Note that the tensor was found under `in_file`, as other keys may have the same prefix."""
        if in_file.endswith("." + key):
            self._prefix = in_file[: -len(key)]


@dataclass(frozen=True, slots=True)
class DecodedSample:
    """A sample in comparable form, decoded once for any number of files."""

    key: str
    dtype: str
    shape: tuple[int, ...]
    values: Values
    routes: tuple[CastRoute, ...]
    """The routes by which the values can have been cast."""


def decode_by_routes(sample: TensorSample) -> tuple[DecodedSample, DecodedSample]:
    """The sample, as it is if its values were cast directly, and if they were cast by any other route.

    For one that is compared with one file, whose index is made for as many routes as are needed.
    """
    values = comparable(sample.dtype, sample.data)
    direct = DecodedSample(sample.key, sample.dtype, tuple(sample.shape), values, (DIRECT,))
    return direct, replace(direct, routes=all_routes(sample.dtype)[1:])


def decode_samples(fingerprint: Fingerprint) -> tuple[DecodedSample, ...]:
    """The fingerprint's samples, decoded for `FileIndex.match`."""
    return tuple(map(_decoded, fingerprint.samples))


def _decoded(sample: TensorSample) -> DecodedSample:
    values = comparable(sample.dtype, sample.data)
    return DecodedSample(sample.key, sample.dtype, tuple(sample.shape), values, possible_routes(sample.dtype, values))


_Position = tuple[str, int]
"""A tensor's key in the file, and the number of the element at which a sample may begin."""


class FileIndex:
    """An index of a file's values. Each is read once, and cast once for each route that is needed.

    Comparing a sample then costs a look-up, however many models are compared with the file.
    """

    def __init__(self, file: FileValues) -> None:
        self.file = file
        self._tensor_finder = TensorFinder(file.tensors)
        self._values: dict[_Position, Values] = {}
        """The values read, in comparable form."""
        self._firsts: dict[tuple[_Position, str, CastRoute], Values] = {}
        """The first value at each position, cast to a dtype by a route."""
        self._cast: dict[tuple[_Position, str, CastRoute], Values] = {}
        """All values at each position, cast to a dtype by a route."""
        self._by_first: dict[tuple[tuple[int, ...], str, CastRoute], dict[Value, list[tuple[int, _Position]]]] = {}
        """By shape, dtype and route, then by first value: the positions where a tensor may begin, each with its key's order."""

    def __len__(self) -> int:
        """The number of cached values of tensors, read or cast: about 600 bytes each."""
        return len(self._values) + len(self._firsts) + len(self._cast)

    def finder(self) -> TensorFinder:
        """A finder for one model's tensors."""
        return self._tensor_finder.without_prefix()

    def match(self, samples: Sequence[DecodedSample]) -> Match:
        """How many of the samples agree. Counting stops once fewer than a third can: the file is then no match.

        Of a file with which most agree, those that can't be compared don't count: those that are quantized, and those in whose
        place the file has others. The latter must be the smaller part: nothing is claimed because of a few small tensors.
        """
        names = self.finder()
        elements = elements_of(samples)
        in_all = sum(elements)
        matched = 0
        matched_elements = other_elements = 0.0
        others: list[tuple[DecodedSample, float]] = []
        quantized: list[float] = []
        for number, (sample, count) in enumerate(zip(samples, elements, strict=True)):
            if 3 * other_elements > 2 * in_all and 3 * (number - matched) > 2 * len(samples):
                break
            named = names.named(sample.key, sample.shape)
            key = self.key_of(sample, named)
            if key is not None:
                names.found(sample.key, key)
                matched += 1
                matched_elements += count
                continue
            if self._is_otherwise_quantized(sample, named):
                quantized.append(count)
            else:
                other_elements += count
                if named is None:
                    others.append((sample, count))
        left_out = quantized
        converted = [count for sample, count in others if names.was_converted(sample.key)]
        if sum(converted) <= matched_elements:
            left_out = quantized + converted
        if matched < MOST_OF_A_FEW or 2 * matched_elements < in_all - sum(left_out):
            return Match(matched, len(samples), matched_elements, in_all)
        return Match(matched, len(samples) - len(left_out), matched_elements, in_all - sum(left_out))

    def _is_otherwise_quantized(self, sample: DecodedSample, named: str | None) -> bool:
        """Whether the model holds integers where the file has none: they don't tell what they were quantized from."""
        if sample.dtype in NUMBERS:
            return False
        in_file = (self._dtype((named, 0)),) if named is not None else {dtype for dtype, _ in self.file.tensors.values()}
        return sample.dtype not in in_file

    def key_of(self, sample: DecodedSample, named: str | None) -> str | None:
        """The key of the tensor that the sample agrees with: `named` if there is one, else the first with a suitable shape.

        Args:
            sample: values in memory.
            named: what `TensorFinder.named` says of its key; None if it may be any.
        """
        if not sample.values:
            return None
        if named is not None:
            routes = distinct_routes(self.file.tensors[named][0], sample.dtype, sample.routes)
            return named if any(self._agrees((named, 0), sample, route) for route in routes) else None
        found: list[tuple[int, _Position]] = []
        for route in sample.routes:
            alike = self._alike(sample.shape, sample.dtype, route).get(sample.values[0], ())
            found += [(order, position) for order, position in alike if self._agrees(position, sample, route)]
        return min(found)[1][0] if found else None

    def _agrees(self, position: _Position, sample: DecodedSample, route: CastRoute) -> bool:
        """Whether the values there, cast by this route, are the sample's: the first value is compared first, as most differ."""
        if self._first(position, sample.dtype, route) != sample.values[:1]:
            return False
        request = (position, sample.dtype, route)
        found = self._cast.get(request)
        if found is None:
            found = self._cast[request] = cast_values(self._read(position), self._dtype(position), sample.dtype, route)
        return found == sample.values

    def _alike(self, shape: tuple[int, ...], dtype: str, route: CastRoute) -> Mapping[Value, Sequence[tuple[int, _Position]]]:
        """The positions where a tensor of this shape may begin, in order, by the first value there, cast by this route."""
        found = self._by_first.get((shape, dtype, route))
        if found is None:
            found = self._by_first[shape, dtype, route] = {}
            for order, key in enumerate(self._tensor_finder.alike(shape)):
                if route in distinct_routes(self.file.tensors[key][0], dtype, (route,)):
                    for start in _starts(shape, self.file.tensors[key][1]):
                        for value in self._first((key, start), dtype, route):
                            found.setdefault(value, []).append((order, (key, start)))
        return found

    def _first(self, position: _Position, dtype: str, route: CastRoute) -> Values:
        request = (position, dtype, route)
        found = self._firsts.get(request)
        if found is None:
            found = self._firsts[request] = cast_values(self._read(position)[:1], self._dtype(position), dtype, route)
        return found

    def _read(self, position: _Position) -> Values:
        found = self._values.get(position)
        if found is None:
            found = self._values[position] = comparable(self._dtype(position), self.file.read(*position, VALUES))
        return found

    def _dtype(self, position: _Position) -> str:
        return self.file.tensors[position[0]][0]


def compare(fingerprint: Fingerprint, file: FileValues) -> Match:
    """How many of the samples agree with the file. To compare several fingerprints, make one `FileIndex`."""
    return FileIndex(file).match(decode_samples(fingerprint))


def shapes_may_match(shapes: Iterable[tuple[int, ...]], wanted: Sequence[tuple[int, ...]]) -> bool:
    """Whether at least half of the samples could be from a tensor of the file, by shape alone; with fewer there is no match.

    Args:
        shapes: of the file's tensors.
        wanted: of the tensors that the samples are from.
    """
    heights: dict[tuple[int, ...], set[int]] = {}
    stacked: dict[tuple[int, ...], set[int]] = {}
    for shape in shapes:
        if shape:
            heights.setdefault(shape[1:], set()).add(shape[0])
        if len(shape) == 3:
            stacked.setdefault(shape[2:], set()).add(shape[1])
    possible = 0
    for shape in filter(None, wanted):
        may_match = any(_may_be_fused(shape[0], height) for height in heights.get(shape[1:], ()))
        if not may_match and len(shape) == 2:
            may_match = any(height % shape[0] == 0 for height in stacked.get(shape[1:], ()) if shape[0])
        elif not may_match and len(shape) == 3:
            may_match = any(shape[1] % height == 0 for height in heights.get(shape[2:], ()) if height)
        possible += may_match
    return possible > 0 and 2 * possible >= len(wanted)


def _may_be_fused(height: int, other: int) -> bool:
    """Whether tensors with these first dimensions may be the same, or one may be a part of the other."""
    return height == other or 0 < max(height, other) <= FUSED_AT_MOST * min(height, other)


def best_files(matches: Mapping[str, Match]) -> tuple[str, ...]:
    """The files that agree best, all of them on a tie; none if no file agrees well enough.

    It is also a tie if another file agrees with more than half as many elements as the best, and these may be the ones with
    which the best one doesn't agree: the model may be made of both.
    """
    sufficient = {path: match for path, match in matches.items() if match.is_full or match.is_patched}
    best = max((match.weight for match in sufficient.values()), default=0)
    found = {path for path, match in sufficient.items() if math.isclose(match.weight, best, rel_tol=ROUNDING)}
    if found:
        compared = (1 + ROUNDING) * max(match.compared_weight for match in matches.values())
        # What isn't compared with one may be another's.
        found.update(path for path, match in matches.items() if 2 * match.weight > best and match.weight + best <= compared)
    return tuple(sorted(found))


def same_names_and_shapes(wanted: Mapping[str, tuple[int, ...]], file: Mapping[str, tuple[str, tuple[int, ...]]]) -> bool:
    """Whether the file has a tensor of the wanted shape for every wanted key, under the key itself or below one common prefix."""
    if not wanted:
        return False
    first = next(iter(wanted))
    prefixes = [key[: -len(first)] for key in file if key == first or key.endswith("." + first)]
    return any(
        all((found := file.get(prefix + key)) and found[1] == shape for key, shape in wanted.items()) for prefix in prefixes
    )


def rank(key: str) -> tuple[int, str]:
    """The sort key by which keys are chosen for samples: a CRC-32, so that repeating layers don't bias the choice."""
    return zlib.crc32(key.encode("utf-8", "backslashreplace")), key


def agrees(sample: TensorSample, file: FileValues, key: str) -> bool:
    """Whether the sample may be from this tensor of the file, from a part of it, or from a tensor fused from it and others."""
    dtype, shape = file.tensors[key]
    return any(agree(sample.dtype, sample.data, dtype, file.read(key, start, VALUES)) for start in _starts(sample.shape, shape))


def _starts(wanted: Sequence[int], in_file: Sequence[int]) -> Iterator[int]:
    """The elements of the file's tensor at which a sample of a tensor of the wanted shape may begin."""
    if tuple(wanted) == tuple(in_file):
        yield 0
    elif wanted and in_file and tuple(wanted[1:]) == tuple(in_file[1:]) and wanted[0] and in_file[0]:
        smaller, larger = sorted((wanted[0], in_file[0]))
        if larger > FUSED_AT_MOST * smaller or len(wanted) < 2 or 0 in wanted:
            return
        if in_file[0] == smaller:
            yield 0  # the first of several that were fused in memory
        elif larger % smaller == 0:
            yield from range(0, math.prod(in_file), math.prod(wanted))
        else:  # parts of unequal heights: q is larger than k and v where these are shared
            step = math.gcd(larger, smaller)
            if larger // step <= STACKED_AT_MOST:
                yield from range(0, math.prod(in_file[1:]) * (larger - smaller + 1), math.prod(in_file[1:]) * step)
    elif len(wanted) == 3 and len(in_file) == 2 and wanted[2] == in_file[1] and in_file[0] and wanted[1] % in_file[0] == 0:
        yield 0  # the first of several that were stacked in memory
    elif len(wanted) == 2 and len(in_file) == 3 and wanted[1] == in_file[2] and wanted[0] and in_file[1] % wanted[0] == 0:
        is_searched = math.prod(in_file[:2]) <= STACKED_AT_MOST * wanted[0]
        yield from range(0, math.prod(in_file) if is_searched else 0, math.prod(wanted))
