"""Decides which model is named next. Names are found in the background, while the model's bytes are shown already."""

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
from gpumodels.support.never_pickled import never_pickled

LOAN_SECONDS: Final = {Need.UNKNOWN: 5.0, Need.SOUGHT: 2.0, Need.CHANGED: 0.5, Need.RECHECK: 0.0}
"""Processor time that may be borrowed: scans leave up to SAVINGS_SECONDS of debt, and new models are named all the same."""


@never_pickled
class NameQueue:
    """Names one model after the other: first those without a name, the largest first, the newest first if equally large."""

    def __init__(self, registry: ModuleRegistry, model_names: ModelNames, failures: Failures, budget: Budget) -> None:
        self._registry = registry
        self._model_names = model_names
        self._failures = failures
        self._budget = budget
        self._found: Sequence[FoundModel] = ()
        self._present: frozenset[FoundModel] = frozenset()
        self._ranked: tuple[Sequence[FoundModel], tuple[int, ...]] | None = None
        """The models, and the version of what they may come from, for which `_waiting` was made."""
        self._waiting: list[tuple[Need, int, int]] = []
        """Need, bytes and index in `_found` of the models about which something is to be found out; the last is the next."""
        self._to_recheck: list[FoundModel] = []
        """Models about which nothing is new that this round has not reached yet; the last is the next."""
        self._done: set[FoundModel] = set()
        """Models that were identified since the last `set_models`."""

    def set_models(self, found: Sequence[FoundModel]) -> None:
        """Take the models of the last scan. Those about which nothing is new are checked again in rounds, one after the other."""
        self._done.clear()
        if found is not self._found:
            self._found, self._present = found, frozenset(found)
        if not self._to_recheck:
            self._to_recheck = [one for one in reversed(found) if one.part.left_of is None]

    def find_next(self) -> bool:
        """Identify one model. Returns whether there was one, and time for it."""
        version = self._model_names.version()
        if self._ranked is None or self._ranked[0] is not self._found or self._ranked[1] != version:
            self._ranked = self._found, version
            self._waiting = self._models_in_need()
        if self._waiting:
            need, _, number = self._waiting[-1]
            if not self._budget.allows(LOAN_SECONDS[need]):
                return False
            self._waiting.pop()
            self._identify(self._found[number])
            return True
        while self._to_recheck and self._budget.allows(LOAN_SECONDS[Need.RECHECK]):
            found = self._to_recheck.pop()
            if found in self._present and found not in self._done:  # else it changed, or was identified already
                self._identify(found)
                return True
        return False

    def _models_in_need(self) -> list[tuple[Need, int, int]]:
        waiting: list[tuple[Need, int, int]] = []
        for number, found in enumerate(self._found):
            if found.part.left_of is not None:
                continue  # it is called by the model that it is left of
            core = self._registry.ref(found.core)
            with self._failures.guard("checking which names are known"), suppress(ReferenceError):
                if core is not None and (need := self._model_names.need(found, core)) is not Need.RECHECK:
                    waiting.append((need, found.held_bytes, number))
        return sorted(waiting)

    def _identify(self, found: FoundModel) -> None:
        self._done.add(found)
        began, spent = time.thread_time(), self._budget.spent
        core = self._registry.ref(found.core)
        try:
            # No failure if the host has deleted the model meanwhile, as it may at any moment.
            with self._failures.guard("naming a model"), suppress(ReferenceError):
                if core is not None:
                    self._model_names.find_out(found, core)
        finally:
            in_pauses = self._budget.spent - spent  # work in the pauses has been charged already
            self._budget.spend(max(0.0, time.thread_time() - began - in_pauses))
