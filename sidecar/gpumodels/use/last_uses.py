"""Decides since when each model has certainly not run. What may have run unseen has no such time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from operator import attrgetter
from types import ModuleType
from typing import Final, NamedTuple

from gpumodels.hooks.torch_hooks import Listener
from gpumodels.models.allocators import DeviceCounters
from gpumodels.models.assembling import FoundModel
from gpumodels.observing.module_registry import ModuleRegistry
from gpumodels.support.never_pickled import never_pickled
from gpumodels.use.called_models import CalledModels
from gpumodels.use.cuda_graphs import CudaGraphs
from gpumodels.use.device_rest import KIND, DeviceRest
from gpumodels.use.hidden_calls import HiddenCalls
from gpumodels.use.module_calls import ModuleCalls
from gpumodels.use.process_rest import ProcessRest
from gpumodels_shared.schema import USED_BY_ALLOCATIONS, USED_BY_CALLS, USED_BY_PROCESS

HOST: Final = "cpu"
COUNTED_ELSEWHERE: Final = attrgetter("counted_elsewhere")
SHORTEST_REST_NS: Final = 60 * 10**9
"""A process, or an allocator, that rested for less than this may be waiting for what a model computes on an accelerator."""


@never_pickled
class Use(NamedTuple):
    """When a model last ran, or may have run at the latest."""

    last_ns: int
    """Realtime nanoseconds."""
    known_by: str
    """`calls`, `process` or `allocations`."""


@never_pickled
class _Known(NamedTuple):
    """What is known of no model in particular."""

    of_process: Use | None
    """Since when the process has computed nothing."""
    of_devices: Use | None
    """Since when nothing was computed on the accelerators."""
    may_replay: bool
    """Whether something may run on accelerators without any call."""
    may_run_functions: bool
    """Whether models may run without any call that is seen."""
    shared: Set[tuple[str, int]] = frozenset()
    """The storages that several models hold."""


@never_pickled
class LastUses:
    """By model, since when it hasn't run. Only the sidecar's thread uses it.

    Args:
        torch: the host's torch.
        registry: knows the modules.
        tracks_calls: whether the user asked for the calls of modules to be noted.
        rest: tells whether the process rests.
        now_ns: realtime nanoseconds.
    """

    def __init__(
        self,
        torch: ModuleType,
        registry: ModuleRegistry,
        tracks_calls: bool,
        rest: ProcessRest | None = None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._graphs = CudaGraphs(torch)
        self._rest = rest if rest is not None else ProcessRest()
        self._device_rest = DeviceRest(self._graphs)
        self._calls, self._hidden = ModuleCalls(torch), HiddenCalls(torch)
        self._called = CalledModels(registry, self._calls, self._hidden) if tracks_calls else None
        self._now_ns = now_ns
        self._known = _Known(None, None, False, False)
        self._present: frozenset[FoundModel] = frozenset()
        self._by_core: dict[int, set[FoundModel]] = {}
        """By core, the models of the last `update`: the model itself and its adapters."""
        self.known: dict[FoundModel, Use] = {}
        """Of the models of the last `update`, those of which it is known."""

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """What is to be observed for it."""
        return (self._graphs,) if self._called is None else (self._graphs, self._hidden, self._calls)

    def begin(self, counters: Mapping[str, DeviceCounters]) -> None:
        """A tick begins: see whether the process rests, and whether the allocators do.

        Args:
            counters: by device, what the allocators count.
        """
        now_ns = self._now_ns()
        self._graphs.update()
        self._rest.update(now_ns)
        self._device_rest.update(counters, now_ns)

    def update(self, found: Sequence[FoundModel]) -> Iterator[None]:
        """Bring `known` up to date with the models of a scan, in steps. What didn't change takes none."""
        if self._called is not None:
            self._called.take_calls()
        now_ns = self._now_ns()
        present = frozenset(found)
        come, gone = present - self._present, self._present - present
        for one in gone:
            self.known.pop(one, None)
        cores = {one.core for one in come | gone}
        for one in come:
            self._by_core.setdefault(one.core, set()).add(one)
        for one in gone:
            self._by_core.setdefault(one.core, set()).discard(one)
        ended = [core for core in cores if not self._by_core[core]]
        if self._called is not None:
            yield from self._called.update(come, ended, now_ns)
            cores |= self._called.changed
            self._called.changed.clear()
        for core in ended:
            del self._by_core[core]
        self._present = present
        known = self._known_of_all(found, now_ns)
        if known != self._known:
            self._known, cores = known, set(self._by_core)
        self._decide(cores)

    def _decide(self, cores: Iterable[int]) -> None:
        for core in cores:
            for one in self._by_core.get(core, ()):
                use = self._use_of(one)
                if use is None:
                    self.known.pop(one, None)
                else:
                    self.known[one] = use

    def _known_of_all(self, found: Sequence[FoundModel], now_ns: int) -> _Known:
        return _Known(
            _long_enough(self._rest.since_ns, USED_BY_PROCESS, now_ns),
            _long_enough(self._device_rest.since_ns, USED_BY_ALLOCATIONS, now_ns),
            self._graphs.may_exist,
            self._hidden.may_run_functions,
            frozenset().union(*filter(None, map(COUNTED_ELSEWHERE, found))),
        )

    def _use_of(self, one: FoundModel) -> Use | None:
        """The earliest time since when it can't have run, by all that is known."""
        known = self._known
        of_devices = known.of_devices if _is_on_accelerators(one) else None
        return min((use for use in (known.of_process, of_devices, self._called_last(one)) if use is not None), default=None)

    def _called_last(self, one: FoundModel) -> Use | None:
        """By its calls, where they are noted and nothing else may run it: no graph, and no other model with its weights."""
        may_replay = self._known.may_replay and not one.bytes_by_device.keys() <= {HOST}
        is_shared = not self._known.shared.isdisjoint(one.storages)
        if self._called is None or may_replay or is_shared or one.part.left_of is not None:
            return None
        last_ns = self._called.last_ns(one.core)
        return Use(last_ns, USED_BY_CALLS) if last_ns is not None else None


def _long_enough(since_ns: int | None, known_by: str, now_ns: int) -> Use | None:
    return Use(since_ns, known_by) if since_ns is not None and now_ns - since_ns >= SHORTEST_REST_NS else None


def _is_on_accelerators(one: FoundModel) -> bool:
    """Whether all of it certainly is where allocations are counted, as they aren't in host memory."""
    kinds = {device.partition(":")[0] for device, size in one.bytes_by_device.items() if size}
    is_elsewhere = one.missing_bytes or one.unread or one.paged_onto is not None or one.asleep_bytes or one.shared_bytes
    return kinds == {KIND} and not is_elsewhere
