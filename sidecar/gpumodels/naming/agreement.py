"""How a model's values agree with the file that it is said to be from: untouched, patched, changed, or written over.

A name says what was loaded; what happened to the values since then shows in the values alone. Training and merging leave them
plainly related to the file's: the first elements of a tensor keep their pattern. Other values don't have it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from gpumodels.support.never_pickled import never_pickled
from gpumodels_shared.fingerprint import FileValues, TensorFinder, agrees
from gpumodels_shared.floats import decode_values
from gpumodels_shared.schema import TensorSample

RELATED: Final = 0.9
"""Correlation of a tensor's first elements with the file's, from which they are the same ones, changed."""
RELATED_UNNAMED: Final = 0.97
"""The same where keys were renamed, and the most alike of many tensors is taken."""
COMPARISONS_PER_STEP: Final = 16
MAX_COMPARISONS: Final = 50_000

_NUMBERS: Final = frozenset({"float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"})


@never_pickled
@dataclass(frozen=True, slots=True)
class Agreement:
    """Counts of tensors."""

    compared: int
    """Those that can be compared: the file has something of their shape, in numbers of their kind."""
    matched: int
    related: int
    """Of those that don't match: how many are the file's, changed."""

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
        """Most values are neither the file's nor made from them."""
        return 2 * (self.matched + self.related) < self.compared


def agreement(
    samples: Iterable[TensorSample],
    files: Sequence[FileValues],
    pause: Callable[[], None],
    max_comparisons: int = MAX_COMPARISONS,
    others: list[TensorSample] | None = None,
) -> Agreement | None:
    """How the samples agree with these files together; None where that would take too long.

    Args:
        samples: the model's.
        files: each a checkpoint that the model's values are said to be from.
        pause: called every few comparisons, while nothing is held.
        max_comparisons: what takes more than that isn't worth knowing.
        others: receives the samples that are neither the files' nor made from them.
    """
    judges = [_Judge(file) for file in files]
    compared = matched = related = 0
    done = 0
    for count, sample in enumerate(samples, 1):
        outcomes = [judge.outcome(sample) for judge in judges]
        compared += any(outcome is not None for outcome in outcomes)
        if _MATCHES in outcomes:
            matched += 1
        elif _RELATED in outcomes:
            related += 1
        elif others is not None and _OTHER in outcomes:
            others.append(sample)
        total = sum(judge.comparisons for judge in judges)
        if total > max_comparisons:
            return None
        if total - done > COMPARISONS_PER_STEP or count % COMPARISONS_PER_STEP == 0:
            done = total
            pause()
    return Agreement(compared, matched, related)


_MATCHES: Final = "matches"
_RELATED: Final = "related"
_OTHER: Final = "other"


@never_pickled
class _Judge:
    """Compares samples with one file."""

    def __init__(self, file: FileValues) -> None:
        self._file = file
        self._tensor_finder = TensorFinder(file.tensors)
        self.comparisons = 0

    def outcome(self, sample: TensorSample) -> str | None:
        """None where there is nothing that the sample could be compared with."""
        named = self._tensor_finder.named(sample.key, sample.shape)
        keys = [
            key
            for key in (self._tensor_finder.alike(sample.shape) if named is None else (named,))
            if self._is_of_kind(sample, key)
        ]
        for key in keys:
            self.comparisons += 1
            if agrees(sample, self._file, key):
                self._tensor_finder.found(sample.key, key)
                return _MATCHES
        if not keys or (named is None and self._tensor_finder.was_converted(sample.key)):
            return None
        least = RELATED if named is not None else RELATED_UNNAMED
        return _RELATED if any(self._correlation(sample, key) >= least for key in keys) else _OTHER

    def _is_of_kind(self, sample: TensorSample, key: str) -> bool:
        """Whether both are numbers, or quantized alike: a quantized tensor says nothing of what it was made from."""
        dtype = self._file.tensors[key][0]
        return dtype == sample.dtype or (dtype in _NUMBERS and sample.dtype in _NUMBERS)

    def _correlation(self, sample: TensorSample, key: str) -> float:
        dtype, shape = self._file.tensors[key]
        if shape != sample.shape or not {dtype, sample.dtype} <= _NUMBERS:
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
