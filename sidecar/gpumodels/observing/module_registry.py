"""The live modules, as weak references: learned from observed construction and registration, copies, and one sweep at start."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.weak_table import KeyedRef, WeakTable

if TYPE_CHECKING:
    from torch import nn


@never_pickled
@dataclass(frozen=True, slots=True)
class Changes:
    """What happened to modules since the previous scan, as far as events reported it."""

    added: tuple[KeyedRef, ...] = ()
    """Modules that were added to the registry."""
    died: tuple[KeyedRef, ...] = ()
    """Modules that died since then."""
    touched: tuple[int, ...] = ()
    """Keys of modules that, with all below them, were moved, cast or loaded, or had something registered with them."""


@never_pickled
class ModuleRegistry:
    """Live modules, in the order in which they were added. The host's threads add to it, the sidecar's thread reads it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._living: WeakTable[int] = WeakTable(on_death=self._died)
        """Each with the time of its construction, realtime nanoseconds; 0 where that wasn't observed."""
        self.known = self._living.by_id
        """The registered modules by id; read-only."""
        self._clock = clock
        self._come: deque[KeyedRef] = deque()
        self._gone: deque[KeyedRef] = deque()
        self._touched: deque[int] = deque()
        self._is_loaded = False
        self.version = 0
        """Increases whenever a module is added, dies or is touched: while it stays the same, there is nothing to scan."""
        self._moves = 0
        self.grew_at = float("-inf")
        """When the latest module was added, on `clock`: the host may be in the middle of building a model."""

    def __len__(self) -> int:
        return len(self._living)

    def add_new(self, module: nn.Module) -> None:
        """Add a module that is being constructed. Called thousands of times while a model is built."""
        if id(module) not in self.known:
            self._come.append(self._living.put(module, time.time_ns()))
            self.version += 1
            self.grew_at = self._clock()

    def add(self, module: nn.Module, built_ns: int = 0) -> None:
        """Add a module. `built_ns` is when it was constructed, realtime nanoseconds; 0 if that wasn't observed."""
        if module not in self._living:
            self._come.append(self._living.put(module, built_ns))
            self.version += 1
            self.grew_at = self._clock()

    def add_all(self, modules: Iterable[nn.Module]) -> None:
        """Add modules whose construction wasn't observed."""
        for module in modules:
            self.add(module)

    def built_ns(self, key: int) -> int:
        """When the module with this id was constructed, realtime nanoseconds; 0 if that wasn't observed, as for copies."""
        ref = self._living.ref(key)
        return 0 if ref is None else int(ref.value)

    @property
    def contents_version(self) -> int:
        """Increases whenever a module is added, dies, is loaded or changes in itself; not when it is only moved or cast."""
        return self.version - self._moves

    def note_load(self, module: Any) -> None:
        """Note that values were loaded into this module and those below it; add it if it is unknown."""
        self._is_loaded = True
        self.add(module)
        self.note_change(id(module))

    def note_move(self, module: Any) -> None:
        """Note that this module and those below it were moved or cast; add it if it is unknown."""
        self.add(module)
        self._moves += 1
        self.note_change(id(module))

    def note_change(self, key: int) -> None:
        """Note that something changed in the registered module with this id."""
        self._touched.append(key)
        self.version += 1

    def request_scan(self) -> None:
        """Request a scan because something other than a module changed."""
        self._moves += 1
        self.version += 1

    def only_moved(self) -> bool:
        """Whether there were only moves since `take_changes`: values in new memory are then copies, not mapped from a file."""
        return bool(self._touched) and not (self._come or self._is_loaded)

    def take_changes(self) -> Changes:
        """The changes since the previous call."""
        self._is_loaded = False
        died, added, touched = _drained(self._gone), _drained(self._come), _drained(self._touched)
        return Changes(added, died, tuple(dict.fromkeys(touched)))

    def refs(self) -> list[KeyedRef]:
        """Weak references to all modules, in the order in which they were added."""
        return self._living.refs()

    def ref(self, key: int) -> KeyedRef | None:
        """The weak reference to the module with this id; None if it isn't registered."""
        return self._living.ref(key)

    def _died(self, ref: KeyedRef) -> None:
        self._gone.append(ref)
        self.version += 1


def _drained(queue: deque[Any]) -> tuple[Any, ...]:
    """Remove and return what the queue holds right now, while the host's threads may keep adding to it."""
    return tuple(queue.popleft() for _ in range(len(queue)))
