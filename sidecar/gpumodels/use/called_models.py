"""When each model was last called, from the calls of its modules. The work is in proportion to what was called or changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from gpumodels.models.assembling import FoundModel
from gpumodels.observing.module_registry import ModuleRegistry
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.slices import batched
from gpumodels.support.weak_table import KeyedRef
from gpumodels.use.hidden_calls import HiddenCalls
from gpumodels.use.module_calls import ModuleCalls

SETTLED_NS: Final = 10 * 10**9
OLDEST_NS: Final = 30 * 10**9
"""While a model runs again and again, its time is published only so often, as each time packs the model anew."""
MODULES_PER_STEP: Final = 200


@never_pickled
@dataclass(slots=True)
class _Tracked:
    """What was seen of one model."""

    ref: KeyedRef
    """Its core."""
    alone: frozenset[int]
    """The key of that, as the only one."""
    seen_ns: int
    """When it was first seen."""
    called_ns: int
    """When it was last called; when it was first seen, if it wasn't called since."""
    members: Set[int] = field(default_factory=frozenset)
    runs_unseen: bool = False
    """Whether some of it may run without a call that is seen."""
    published_ns: int | None = None


@never_pickled
class CalledModels:
    """By model's core, when it was last called. Only the sidecar's thread uses it."""

    def __init__(self, registry: ModuleRegistry, calls: ModuleCalls, hidden: HiddenCalls) -> None:
        self._registry = registry
        self._calls = calls
        self._hidden = hidden
        self._called: set[int] = set()
        self._tracked: dict[int, _Tracked] = {}
        self._models_of: dict[int, frozenset[int]] = {}
        """By module's key, the cores of the models that it is in."""
        self._unsettled: set[int] = set()
        """The cores of models that were called lately, or still run."""
        self.changed: set[int] = set()
        """The cores of models of which something else is known since this was last emptied."""

    def last_ns(self, core: int) -> int | None:
        """When the model was last called, realtime nanoseconds; None if that isn't known."""
        model = self._tracked.get(core)
        if model is None or model.runs_unseen or not self._calls.are_observed or self._hidden.may_run_functions:
            return None
        return model.published_ns

    def update(self, come: Iterable[FoundModel], gone: Iterable[int], now_ns: int) -> Iterator[None]:
        """Take the calls that there were, in steps.

        Args:
            come: the models that are new or changed. Adapters run with their base.
            gone: the cores of models that are no more.
            now_ns: realtime nanoseconds, taken after the calls.
        """
        for core in gone:
            model = self._tracked.pop(core, None)
            if model is not None:
                self._unsettled.discard(core)
                yield from self._leave(core, model.members)
        for one in come:
            if one.adapter is None and one.part.left_of is None:
                yield from self._take(one, now_ns)
        self._note(self._called, now_ns)
        self._called = set()
        self._settle(now_ns)

    def take_calls(self) -> None:
        """Take the calls that there were, to be worked off by the next `update`."""
        self._called |= self._calls.take()

    def _take(self, one: FoundModel, now_ns: int) -> Iterator[None]:
        core = one.core
        ref, model = self._registry.ref(core), self._tracked.get(core)
        if model is not None and model.ref is not ref:  # another module with the same key
            del self._tracked[core]
            yield from self._leave(core, model.members)
            model = None
        if ref is None:
            return
        if model is None:
            model = self._tracked[core] = _Tracked(ref, frozenset((core,)), now_ns, now_ns)
            self._unsettled.add(core)
        if model.members is one.members:
            return
        new = set(one.members).difference(model.members)
        yield from self._leave(core, set(model.members).difference(one.members))
        for keys in batched(new, MODULES_PER_STEP):
            modules = [module for key in keys if (ref := self._registry.ref(key)) is not None and (module := ref()) is not None]
            kinds = set(map(type, modules))
            del modules
            model.runs_unseen |= not all(map(self._calls.are_seen, kinds))
            for key in keys:
                others = self._models_of.get(key)
                self._models_of[key] = model.alone if others is None else others | model.alone
            yield
        if new:  # they may have been called before they were known
            self._mark(core, now_ns)
        model.members = one.members
        self.changed.add(core)

    def _leave(self, core: int, keys: Iterable[int]) -> Iterator[None]:
        for batch in batched(keys, MODULES_PER_STEP):
            for key in batch:
                rest = self._models_of.get(key, frozenset()) - {core}
                if rest:
                    self._models_of[key] = rest
                else:
                    self._models_of.pop(key, None)
            yield

    def _note(self, called: set[int], now_ns: int) -> None:
        if called:
            for core in self._of(called):
                self._mark(core, now_ns)

    def _of(self, called: set[int]) -> set[int]:
        """The models that these modules are in; all of them where a call may hide another."""
        if self._hidden.may_run_modules:
            return set(self._tracked)
        found = set(map(self._models_of.get, called))
        return self._tracked.keys() & set(chain.from_iterable(filter(None, found)))

    def _mark(self, core: int, now_ns: int) -> None:
        """Note that the model was called; a time that is long past is made known at once."""
        model = self._tracked[core]
        model.called_ns = now_ns
        self._unsettled.add(core)
        if now_ns - (model.published_ns or model.seen_ns) >= OLDEST_NS:
            self._publish(core, now_ns)

    def _settle(self, now_ns: int) -> None:
        """Make the time exact of the models that weren't called for a while, and whose last call is over."""
        settled = {core for core in self._unsettled if now_ns - self._tracked[core].called_ns >= SETTLED_NS}
        if settled:
            running = self._of(called) if (called := self._calls.in_progress() & self._models_of.keys()) else set()
            for core in settled & running:
                self._mark(core, now_ns)
            for core in settled - running:
                self._unsettled.discard(core)
                self._publish(core, self._tracked[core].called_ns)

    def _publish(self, core: int, last_ns: int) -> None:
        self._tracked[core].published_ns = last_ns
        self.changed.add(core)
