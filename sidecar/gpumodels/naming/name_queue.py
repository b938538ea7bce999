"""Which model is named next, in the background. Its bytes are on show without a name."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from gpumodels.models.assembling import FoundModel
from gpumodels.naming.model_names import ModelNames, Need
from gpumodels.observing.module_registry import ModuleRegistry
from gpumodels.support.budget import Budget
from gpumodels.support.failures import Failures
from gpumodels.support.resident import resident

LOAN_SECONDS: Final = {Need.UNKNOWN: 5.0, Need.SOUGHT: 2.0, Need.CHANGED: 0.5, Need.RECHECK: 0.0}
"""What may be borrowed for it: looks leave up to SAVINGS_SECONDS of debt, and what is new is found out all the same."""


@resident
class NameQueue:
    """Asks one model after the other what it is: first those that have no name, the largest first, the newest of equal ones."""

    def __init__(self, registry: ModuleRegistry, model_names: ModelNames, failures: Failures, budget: Budget) -> None:
        self._registry = registry
        self._model_names = model_names
        self._failures = failures
        self._budget = budget
        self._found: Sequence[FoundModel] = ()
        self._present: frozenset[FoundModel] = frozenset()
        self._judged: tuple[Sequence[FoundModel], tuple[int, ...]] | None = None
        """The models, and what they may be from, by which it was decided who waits."""
        self._waiting: list[tuple[Need, int, int]] = []
        """Need, bytes and place in `_found` of those that something is to be found out about; the last first."""
        self._again: list[FoundModel] = []
        """Of those about which nothing is new: what is left of this round."""
        self._done: set[FoundModel] = set()
        """What was found out about since `see`."""

    def see(self, found: Sequence[FoundModel]) -> None:
        """These are the models now; a new round begins for those about which nothing is new, once the last one is through."""
        self._done.clear()
        if found is not self._found:
            self._found, self._present = found, frozenset(found)
        if not self._again:
            self._again = list(reversed(found))

    def find_next(self) -> bool:
        """Find out about one model; whether there was one that there is time for."""
        version = self._model_names.version()
        if self._judged is None or self._judged[0] is not self._found or self._judged[1] != version:
            self._judged = self._found, version
            self._waiting = self._who_waits()
        if self._waiting:
            need, _, number = self._waiting[-1]
            if not self._budget.allows(LOAN_SECONDS[need]):
                return False
            self._waiting.pop()
            self._find_out(self._found[number])
            return True
        while self._again and self._budget.allows(LOAN_SECONDS[Need.RECHECK]):
            found = self._again.pop()
            if found in self._present and found not in self._done:  # else it is another one by now, which waits by itself
                self._find_out(found)
                return True
        return False

    def _who_waits(self) -> list[tuple[Need, int, int]]:
        waiting: list[tuple[Need, int, int]] = []
        for number, found in enumerate(self._found):
            core = self._registry.ref(found.core)
            with self._failures.guard("looking at what names are known"), suppress(ReferenceError):
                if core is not None and (need := self._model_names.need(found, core)) is not Need.RECHECK:
                    waiting.append((need, found.held_bytes, number))
        return sorted(waiting)

    def _find_out(self, found: FoundModel) -> None:
        self._done.add(found)
        began, spent = time.thread_time(), self._budget.spent
        core = self._registry.ref(found.core)
        try:
            # One that was deleted meanwhile, as hosts do at any moment, is no failure.
            with self._failures.guard("naming a model"), suppress(ReferenceError):
                if core is not None:
                    self._model_names.find_out(found, core)
        finally:
            between = self._budget.spent - spent  # what was done in its pauses counts for itself
            self._budget.spend(max(0.0, time.thread_time() - began - between))
