"""How a model's values agree with the file that it is said to be from: untouched, patched, changed, or written over.

A name says what was loaded; what happened to the values since then shows in the values alone. Training and merging leave them
plainly related to the file's: the first elements of a tensor keep their pattern. Other values don't have it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import repeat
from operator import mul
from typing import Final, NamedTuple

from gpumodels.support.never_pickled import never_pickled
from gpumodels_shared.fingerprint import MOST_OF_A_FEW, NUMBERS, VALUES, FileIndex, FileValues, decode_by_routes
from gpumodels_shared.floats import decode_values
from gpumodels_shared.schema import TensorSample

RELATED: Final = 0.9
"""Correlation of a tensor's first elements with the file's, from which they are the same ones, changed."""
RELATED_UNNAMED: Final = 0.97
"""The same where keys were renamed, and the most alike of many tensors is taken."""
ROUNDING: Final = 2.0**-18
"""By how much of the largest value values may differ: what is left in float32 of an update up to 32 times as large as they."""
COMPARISONS_PER_STEP: Final = 16
MAX_COMPARISONS: Final = 50_000

_WIDE: Final = frozenset({"float64", "float32"})
"""Dtypes that round far less than a training step changes; half precisions round more."""


class _Outcome(IntEnum):
    """What became of one tensor of the file, the best last: of several files, the best one counts."""

    QUANTIZED = 0
    """It holds other kinds of numbers than the file: that says nothing."""
    MISSING = 1
    """The file has nothing like it."""
    CONVERTED = 2
    """The file has others in its place, of which it was made in a way that isn't known."""
    DIFFERENT = 3
    RELATED = 4
    MATCHES = 5


@never_pickled
@dataclass(frozen=True, slots=True)
class Elements:
    """How many of the model's elements are in tensors of which this is true."""

    matched: float = 0
    related: float = 0
    different: float = 0
    converted: float = 0
    missing: float = 0

    @property
    def kept(self) -> float:
        """What is the file's, changed or not."""
        return self.matched + self.related

    @property
    def in_all(self) -> float:
        """All that might be the file's. What was made of others in an unknown way doesn't count if it is less."""
        return self.kept + self.different + self.missing + (self.converted if self.converted > self.kept else 0)


@never_pickled
@dataclass(frozen=True, slots=True)
class Agreement:
    """Counts of tensors, and of the elements in them."""

    compared: int
    """Those that can be compared: the file has something of their shape, in numbers of their kind."""
    matched: int
    related: int
    """Of those that don't match: how many are the file's, changed."""
    counted_elements: Elements | None = field(default=None, compare=False)
    """None: all tensors are equally large."""

    @property
    def elements(self) -> Elements:
        """What decides: a few large tensors are more of a model than many small ones."""
        if self.counted_elements is not None:
            return self.counted_elements
        return Elements(self.matched, self.related, self.compared - self.matched - self.related)

    @property
    def is_unchanged(self) -> bool:
        """Nothing changed, as far as can be seen."""
        return self.matched == self.compared

    @property
    def is_patched(self) -> bool:
        """Something was merged into some of them."""
        return not self.is_unchanged and 2 * self.matched >= self.compared

    @property
    def is_refuted(self) -> bool:
        """Most values are neither the file's nor made from them, or all but those of one or two tensors, however large."""
        kept, different = self.matched + self.related, self.compared - self.matched - self.related
        return self.elements.kept < self.elements.different or kept < min(MOST_OF_A_FEW, different)


def agreement(
    samples: Iterable[TensorSample],
    files: Sequence[FileValues | FileIndex],
    pause: Callable[[], None],
    max_comparisons: int = MAX_COMPARISONS,
    others: list[TensorSample] | None = None,
    weights: Iterable[float] | None = None,
) -> Agreement | None:
    """How the samples agree with these files together; None where that would take too long.

    Args:
        samples: the model's.
        files: each a checkpoint that the model's values are said to be from, or the index of one that is asked more often.
        pause: called every few comparisons, while nothing is held.
        max_comparisons: what takes more than that isn't worth knowing.
        others: receives the samples that are neither the files' nor made from them.
        weights: how many of the model's elements each sample stands for; those of its tensor, where that isn't given.
    """
    judges = [_Judge(file) for file in files]
    counts = dict.fromkeys(_Outcome, 0)
    elements = dict.fromkeys(_Outcome, 0.0)
    done = 0
    for count, (sample, weight) in enumerate(zip(samples, repeat(None) if weights is None else weights, strict=False), 1):
        outcome = max(judge.outcome(sample) for judge in judges)
        counts[outcome] += 1
        elements[outcome] += math.prod(sample.shape) if weight is None else weight
        if others is not None and outcome is _Outcome.DIFFERENT:
            others.append(sample)
        total = sum(judge.comparisons for judge in judges)
        if total > max_comparisons:
            return None
        if total - done > COMPARISONS_PER_STEP or count % COMPARISONS_PER_STEP == 0:
            done = total
            pause()
    matched, related, different = (counts[one] for one in (_Outcome.MATCHES, _Outcome.RELATED, _Outcome.DIFFERENT))
    return Agreement(
        compared=matched + related + different,
        matched=matched,
        related=related,
        counted_elements=Elements(
            matched=elements[_Outcome.MATCHES],
            related=elements[_Outcome.RELATED],
            different=elements[_Outcome.DIFFERENT],
            converted=elements[_Outcome.CONVERTED],
            missing=elements[_Outcome.MISSING],
        ),
    )


@never_pickled
class _Judge:
    """Compares samples with one file. What is read of the file is read once, however many samples may be from there."""

    def __init__(self, file: FileValues | FileIndex) -> None:
        self._index = file if isinstance(file, FileIndex) else FileIndex(file)
        self._file = self._index.file
        self._tensor_finder = self._index.finder()
        self._numbers: dict[str, tuple[float, ...]] = {}
        """The first values of the tensors with these keys."""
        self._deviations: dict[str, _Deviations | None] = {}
        self.comparisons = 0
        """How many tensors of the file were compared one by one. Those that agree exactly are looked up instead."""

    def outcome(self, sample: TensorSample) -> _Outcome:
        """What the sample is to the file."""
        finder = self._tensor_finder
        named = finder.named(sample.key, sample.shape)
        key = self._equal(sample, named)
        if key is not None:
            finder.found(sample.key, key)
            return _Outcome.MATCHES
        keys = [one for one in (finder.alike(sample.shape) if named is None else (named,)) if self._is_of_kind(sample, one)]
        self.comparisons += len(keys)
        values = decode_values(sample.dtype, sample.data) if sample.dtype in NUMBERS else ()
        same_shape = [one for one in keys if self._file.tensors[one][1] == sample.shape] if values else []
        if sample.dtype in _WIDE and all(map(math.isfinite, values)):
            for one in same_shape:
                if self._differs_by_rounding(values, one):
                    finder.found(sample.key, one)
                    return _Outcome.MATCHES
        if named is None and finder.was_converted(sample.key):
            return _Outcome.CONVERTED
        if not keys:
            return _Outcome.MISSING if named is None and sample.dtype in NUMBERS else _Outcome.QUANTIZED
        least = RELATED if named is not None else RELATED_UNNAMED
        of_sample = _deviations(values)
        is_related = of_sample is not None and any(self._correlation(of_sample, one) >= least for one in same_shape)
        return _Outcome.RELATED if is_related else _Outcome.DIFFERENT

    def _equal(self, sample: TensorSample, named: str | None) -> str | None:
        """The key of a tensor that has the sample's values, as they are or cast."""
        return next((key for one in decode_by_routes(sample) if (key := self._index.key_of(one, named)) is not None), None)

    def _is_of_kind(self, sample: TensorSample, key: str) -> bool:
        """Whether both are numbers, or quantized alike: a quantized tensor says nothing of what it was made from."""
        dtype = self._file.tensors[key][0]
        return dtype == sample.dtype or (dtype in NUMBERS and sample.dtype in NUMBERS)

    def _differs_by_rounding(self, values: Sequence[float], key: str) -> bool:
        """Whether the finite values are the file's but for what float32 rounds.

        So they are once a LoRA was merged and unmerged again: `w + d - d` isn't `w`. Nothing is merged into them any more.
        """
        other = self._values(key)
        if len(values) != len(other) or not all(map(math.isfinite, other)):
            return False
        least = ROUNDING * max(map(abs, other), default=0.0)
        return all(abs(value - in_file) <= least for value, in_file in zip(values, other, strict=True))

    def _correlation(self, of_sample: _Deviations, key: str) -> float:
        if key not in self._deviations:
            self._deviations[key] = _deviations(self._values(key))
        in_file = self._deviations[key]
        return _correlation(of_sample, in_file) if in_file is not None else 0.0

    def _values(self, key: str) -> tuple[float, ...]:
        found = self._numbers.get(key)
        if found is None:
            dtype = self._file.tensors[key][0]
            found = self._numbers[key] = decode_values(dtype, self._file.read(key, 0, VALUES))
        return found


def correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Pearson's, from -1 to 1; 0 where one doesn't vary, or isn't finite."""
    deviations, other_deviations = _deviations(one), _deviations(other)
    return _correlation(deviations, other_deviations) if deviations is not None and other_deviations is not None else 0.0


@never_pickled
class _Deviations(NamedTuple):
    """The values' deviations from their mean, as parts of the largest value, so that no product of them is too large."""

    parts: Sequence[float]
    squares: float
    """Their sum."""


def _deviations(values: Sequence[float]) -> _Deviations | None:
    """None where the values don't vary, or aren't finite."""
    if not values or not all(map(math.isfinite, values)):
        return None
    largest = max(map(abs, values)) or 1.0
    parts = [value / largest for value in values]
    mean = math.fsum(parts) / len(parts)
    parts = [part - mean for part in parts]
    squares = math.fsum(part * part for part in parts)
    return _Deviations(parts, squares) if squares else None


def _correlation(one: _Deviations, other: _Deviations) -> float:
    spread = math.sqrt(one.squares * other.squares)
    if not spread or len(one.parts) != len(other.parts):
        return 0.0
    return math.fsum(map(mul, one.parts, other.parts)) / spread
