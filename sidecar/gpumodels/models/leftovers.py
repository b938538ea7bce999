"""Tells models from what is left of them: roots that nothing holds but a reference cycle, until Python's collector comes.

A layer that keeps its own bound method, or whose class was made for it alone (weight norm and other parametrizations), outlives
the model that it was part of. What is left of one model is one entry.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import lt, ne
from typing import Final, NamedTuple

from gpumodels.models.assembling import FormerModel
from gpumodels.support.failures import Failures
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.reference_cycles import only_cycles_hold
from gpumodels.support.weak_table import KeyedRef
from gpumodels.tensors.module_reader import ModuleReading

MAX_AT_FIRST: Final = 3_000
"""Objects that a new root may lead to if it is to be inspected, at some 2 µs each."""
MAX_LATER: Final = 30_000
"""The same where references to the root became fewer than ever before, as when a model is deleted."""
MAX_SECONDS: Final = 0.1
"""No root is inspected after so much time; the rest follows after REST_FACTOR times as long."""
REST_FACTOR: Final = 20
STEP: Final = 8
UNSEEN: Final = FormerModel(None)
"""A model that lived too briefly for a scan to see it."""


@never_pickled
class _Verdict(NamedTuple):
    """What was found out about a root."""

    ref: KeyedRef
    references: int
    """How many references there were to it then, or fewer later."""
    is_left: bool


@never_pickled
class Leftovers:
    """Remembers which roots are held by reference cycles only, and of which model each of these was a part."""

    def __init__(self, failures: Failures, tensor_type: type, clock: Callable[[], float] = time.perf_counter) -> None:
        self._failures = failures
        self._tensor_type = tensor_type
        self._clock = clock
        self._verdicts: dict[int, _Verdict] = {}
        """By root."""
        self._former: dict[int, tuple[KeyedRef, FormerModel]] = {}
        """By root that is left of a model, its own reference and that model."""
        self._whole: tuple[list[KeyedRef], list[int]] = [], []
        self._left: tuple[list[KeyedRef], list[int]] = [], []
        """The roots that aren't left of a model, and those that are, each with the number of references to it."""
        self._is_waiting = False
        """There are roots that were not inspected yet."""
        self._not_before = float("-inf")

    @property
    def is_due(self) -> bool:
        """Whether a root has fewer references than ever before, or one that was left has others now."""
        if self._is_waiting and self._clock() >= self._not_before:
            return True
        return any(map(lt, _references_to(self._whole[0]), self._whole[1])) or any(
            map(ne, _references_to(self._left[0]), self._left[1])
        )

    def find(
        self,
        readings: Mapping[int, ModuleReading],
        roots: Sequence[tuple[int, int]],
        part_of: Callable[[int], FormerModel | None],
        left: dict[tuple[int, ...], FormerModel],
    ) -> Iterator[None]:
        """Fill `left`: the roots that are left of each model, with that model.

        Args:
            readings: all modules.
            roots: all roots, with their cores.
            part_of: of which model a module was a part in the previous scan, itself included.
            left: receives what is left.
        """
        before, former_before = self._verdicts, self._former
        self._verdicts, self._former = {}, {}
        until = self._clock() + MAX_SECONDS
        self._is_waiting = False
        for count, (root, _) in enumerate(roots):
            ref = readings[root].ref
            verdict, former = before.get(root), former_before.get(root)
            if verdict is None or verdict.ref is not ref or _is_outdated(verdict):
                is_new = verdict is None or verdict.ref is not ref
                if self._clock() >= until:
                    self._is_waiting = True
                    continue
                verdict = self._inspect(ref, MAX_AT_FIRST if is_new else MAX_LATER)
            if verdict is not None:
                self._verdicts[root] = verdict
                if verdict.is_left:
                    self._former[root] = former if former is not None and former[0] is ref else (ref, part_of(root) or UNSEEN)
            if count % STEP == 0:
                yield
        if self._is_waiting:
            self._not_before = self._clock() + REST_FACTOR * MAX_SECONDS
        for is_left in (False, True):
            some = [verdict for verdict in self._verdicts.values() if verdict.is_left is is_left]
            columns = [verdict.ref for verdict in some], [verdict.references for verdict in some]
            self._left, self._whole = (columns, self._whole) if is_left else (self._left, columns)
        by_model: dict[int, list[int]] = {}
        for root, (_, model) in self._former.items():
            by_model.setdefault(id(model.ref), []).append(root)
        left.update((tuple(keys), self._former[keys[0]][1]) for keys in by_model.values())

    def _inspect(self, ref: KeyedRef, limit: int) -> _Verdict | None:
        with self._failures.guard("searching for what holds a module"):
            # Twice, as a thread of the host may have changed something meanwhile.
            is_left = bool(only_cycles_hold(ref, limit, self._tensor_type) and only_cycles_hold(ref, limit, self._tensor_type))
            return _Verdict(ref, next(_references_to([ref])), is_left)
        return None


def _references_to(refs: Sequence[KeyedRef]) -> Iterator[int]:
    """How many references there are to each module, ours included. For each tick, so without a line of Python for each."""
    return map(sys.getrefcount, map(KeyedRef.__call__, refs))


def _is_outdated(verdict: _Verdict) -> bool:
    (references,) = _references_to([verdict.ref])
    return references != verdict.references if verdict.is_left else references < verdict.references
