"""Tells models from what is left of them: roots that nothing holds but a reference cycle, until Python's collector comes.

A layer that keeps its own bound method, or whose class was made for it alone (weight norm and other parametrizations), outlives
the model that it was part of. What is left of one model is one entry.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import ne
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
"""The same where references to the root became fewer, as when a model is deleted."""
MAX_SECONDS: Final = 0.1
"""Seconds of one inspection; roots that are left wait until REST_FACTOR times as long has passed."""
REST_FACTOR: Final = 100
STEP: Final = 8
UNSEEN: Final = FormerModel(None)
"""A model that lived too briefly for a scan to see it."""


@never_pickled
class _Verdict(NamedTuple):
    """What was found out about a root."""

    ref: KeyedRef
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
        self._refs: list[KeyedRef] = []
        self._counts: list[int] = []
        """The inspected roots, and how many references there were to each at the last scan."""
        self._suspects: dict[int, None] = {}
        """Roots that have fewer references than before, or if they were left, others; to be inspected again."""
        self._is_changed = False
        """A verdict has changed."""
        self._is_waiting = False
        """There are roots that were not inspected yet."""
        self._not_before = float("-inf")

    @property
    def is_due(self) -> bool:
        """Whether there is something new for `find` to tell."""
        return self._is_changed or (self._is_waiting and self._clock() >= self._not_before)

    def inspect_again(self) -> Iterator[None]:
        """Inspect the roots that lost a reference since the last scan, as when a model is deleted, in a small share of a core."""
        counts = list(_references_to(self._refs))
        if any(map(ne, counts, self._counts)):
            for ref, before, count in zip(self._refs, self._counts, counts, strict=True):
                verdict = self._verdicts.get(ref.key)
                if verdict is not None and (count != before if verdict.is_left else count < before):
                    self._suspects[ref.key] = None
            self._counts = counts
        began = self._clock()
        if not self._suspects or began < self._not_before:
            return
        while self._suspects and self._clock() - began <= MAX_SECONDS:
            root, _ = self._suspects.popitem()
            verdict = self._verdicts.get(root)
            now = self._inspect(verdict.ref, MAX_LATER) if verdict is not None else None
            if verdict is not None and now is not None and now.is_left != verdict.is_left:
                self._verdicts[root] = now
                self._is_changed = True
            yield
        self._not_before = self._clock() + REST_FACTOR * (self._clock() - began)

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
        self._is_waiting = self._is_changed = False
        for count, (root, _) in enumerate(roots):
            ref = readings[root].ref
            verdict, former = before.get(root), former_before.get(root)
            if verdict is None or verdict.ref is not ref:
                if self._clock() >= until:
                    self._is_waiting = True
                    continue
                verdict = self._inspect(ref, MAX_AT_FIRST)
            if verdict is not None:
                self._verdicts[root] = verdict
                if verdict.is_left:
                    self._former[root] = former if former is not None and former[0] is ref else (ref, part_of(root) or UNSEEN)
            if count % STEP == 0:
                yield
        if self._is_waiting:
            self._not_before = self._clock() + REST_FACTOR * MAX_SECONDS
        self._refs = [verdict.ref for verdict in self._verdicts.values()]
        self._counts = list(_references_to(self._refs))
        by_model: dict[int, list[int]] = {}
        for root, (_, model) in self._former.items():
            by_model.setdefault(id(model.ref), []).append(root)
        left.update((tuple(keys), self._former[keys[0]][1]) for keys in by_model.values())

    def _inspect(self, ref: KeyedRef, limit: int) -> _Verdict | None:
        with self._failures.guard("searching for what holds a module"):
            # Twice, as a thread of the host may have changed something meanwhile.
            is_left = bool(only_cycles_hold(ref, limit, self._tensor_type) and only_cycles_hold(ref, limit, self._tensor_type))
            return _Verdict(ref, is_left)
        return None


def _references_to(refs: Sequence[KeyedRef]) -> Iterator[int]:
    """How many references there are to each module, ours included. For each tick, so without a line of Python for each."""
    return map(sys.getrefcount, map(KeyedRef.__call__, refs))
