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
from typing import Final

from gpumodels.support.never_pickled import never_pickled
from gpumodels_shared.fingerprint import MOST_OF_A_FEW, NUMBERS, FileValues, TensorFinder, agrees
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
    files: Sequence[FileValues],
    pause: Callable[[], None],
    max_comparisons: int = MAX_COMPARISONS,
    others: list[TensorSample] | None = None,
    weights: Iterable[float] | None = None,
) -> Agreement | None:
    """How the samples agree with these files together; None where that would take too long.

    Args:
        samples: the model's.
        files: each a checkpoint that the model's values are said to be from.
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
    """Compares samples with one file."""

    def __init__(self, file: FileValues) -> None:
        self._file = file
        self._tensor_finder = TensorFinder(file.tensors)
        self.comparisons = 0

    def outcome(self, sample: TensorSample) -> _Outcome:
        """What the sample is to the file."""
        named = self._tensor_finder.named(sample.key, sample.shape)
        keys = [
            key
            for key in (self._tensor_finder.alike(sample.shape) if named is None else (named,))
            if self._is_of_kind(sample, key)
        ]
        for key in keys:
            self.comparisons += 1
            if agrees(sample, self._file, key) or self._differs_by_rounding(sample, key):
                self._tensor_finder.found(sample.key, key)
                return _Outcome.MATCHES
        if named is None and self._tensor_finder.was_converted(sample.key):
            return _Outcome.CONVERTED
        if not keys:
            return _Outcome.MISSING if named is None and sample.dtype in NUMBERS else _Outcome.QUANTIZED
        least = RELATED if named is not None else RELATED_UNNAMED
        is_related = any(self._correlation(sample, key) >= least for key in keys)
        return _Outcome.RELATED if is_related else _Outcome.DIFFERENT

    def _is_of_kind(self, sample: TensorSample, key: str) -> bool:
        """Whether both are numbers, or quantized alike: a quantized tensor says nothing of what it was made from."""
        dtype = self._file.tensors[key][0]
        return dtype == sample.dtype or (dtype in NUMBERS and sample.dtype in NUMBERS)

    def _differs_by_rounding(self, sample: TensorSample, key: str) -> bool:
        """Whether the values are the file's but for what float32 rounds.

        So they are once a LoRA was merged and unmerged again: `w + d - d` isn't `w`. Nothing is merged into them any more.
        """
        dtype, shape = self._file.tensors[key]
        if sample.dtype not in _WIDE or dtype not in NUMBERS or shape != sample.shape:
            return False
        one = decode_values(sample.dtype, sample.data)
        other = decode_values(dtype, self._file.read(key, 0, len(one)))
        if len(one) != len(other) or not all(map(math.isfinite, (*one, *other))):
            return False
        least = ROUNDING * max(map(abs, other), default=0.0)
        return all(abs(value - in_file) <= least for value, in_file in zip(one, other, strict=True))

    def _correlation(self, sample: TensorSample, key: str) -> float:
        dtype, shape = self._file.tensors[key]
        if shape != sample.shape or not {dtype, sample.dtype} <= NUMBERS:
            return 0.0
        one = decode_values(sample.dtype, sample.data)
        other = decode_values(dtype, self._file.read(key, 0, len(one)))
        return correlation(one, other) if len(one) == len(other) else 0.0


def correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Pearson's, from -1 to 1; 0 where one doesn't vary, or isn't finite."""
    count = len(one)
    if not count or not all(map(math.isfinite, (*one, *other))):
        return 0.0
    deviations, other_deviations = _deviations(one), _deviations(other)
    spread = math.sqrt(math.fsum(value * value for value in deviations) * math.fsum(value * value for value in other_deviations))
    if not spread:
        return 0.0
    return math.fsum(value * other_value for value, other_value in zip(deviations, other_deviations, strict=True)) / spread


def _deviations(values: Sequence[float]) -> list[float]:
    """From their mean, as parts of the largest value, so that no product of them is too large."""
    largest = max(map(abs, values)) or 1.0
    parts = [value / largest for value in values]
    mean = math.fsum(parts) / len(parts)
    return [part - mean for part in parts]
