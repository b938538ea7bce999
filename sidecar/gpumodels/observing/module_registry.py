"""Which modules live: weak references only, learned from torch's registration hooks, one sweep at start, and copies made."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gpumodels.support.resident import resident
from gpumodels.support.weak_table import KeyedRef, WeakTable

if TYPE_CHECKING:
    from torch import nn


@resident
@dataclass(frozen=True, slots=True)
class Changes:
    """What happened to modules since the last look, as far as anybody told."""

    come: tuple[KeyedRef, ...] = ()
    gone: tuple[KeyedRef, ...] = ()
    touched: tuple[int, ...] = ()
    """Keys of modules that were moved, cast or loaded, with all below them."""


@resident
class ModuleRegistry:
    """Live modules, oldest first. The host's threads add, the sidecar's reads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._modules: WeakTable[int] = WeakTable(on_death=self._died)
        """With when each came into being, realtime nanoseconds; 0 where nobody saw that."""
        self.known = self._modules.by_id
        """Of whom there is nothing new to know; by id, to look into only."""
        self._clock = clock
        self._come: deque[KeyedRef] = deque()
        self._gone: deque[KeyedRef] = deque()
        self._touched: deque[int] = deque()
        self._is_loaded = False
        self.version = 0
        """Goes up whenever a module came, went, or was touched: equal versions, nothing to scan."""
        self.grew_at = float("-inf")
        """When the last unknown module came, on `clock`: the host may be in the middle of building a model."""

    def __len__(self) -> int:
        return len(self._modules)

    def add_new(self, module: nn.Module) -> None:
        """Know this module, which is being built, from now on. A model is built by thousands of these."""
        if id(module) not in self.known:
            self._come.append(self._modules.put(module, time.time_ns()))
            self.version += 1
            self.grew_at = self._clock()

    def add(self, module: nn.Module, born_ns: int = 0) -> None:
        """Know this module from now on. Nobody saw it being built, unless `born_ns` says when."""
        if module not in self._modules:
            self._come.append(self._modules.put(module, born_ns))
            self.version += 1
            self.grew_at = self._clock()

    def add_all(self, modules: Iterable[nn.Module]) -> None:
        """Know all of these."""
        for module in modules:
            self.add(module)

    def born_ns(self, key: int) -> int:
        """When the module of this id was built, realtime nanoseconds; 0 where nobody saw that: an older one, or a copy."""
        ref = self._modules.ref(key)
        return 0 if ref is None else int(ref.value)

    def load_below(self, module: Any) -> None:
        """Something was loaded into this module and those below it; known or not until now."""
        self._is_loaded = True
        self.move_below(module)

    def move_below(self, module: Any) -> None:
        """They were moved or cast."""
        self.add(module)
        self.touch_known(id(module))

    def touch_known(self, key: int) -> None:
        """Something about a known module changed, by its id."""
        self._touched.append(key)
        self.version += 1

    def look_again(self) -> None:
        """Something changed that is no module, and that a look shows."""
        self.version += 1

    def only_moved(self) -> bool:
        """Whether nothing but moves happened since changes were taken: what is in new memory then, is in no file's."""
        return bool(self._touched) and not (self._come or self._is_loaded)

    def take_changes(self) -> Changes:
        """What happened since this was asked the last time."""
        self._is_loaded = False
        gone, come, touched = _taken(self._gone), _taken(self._come), _taken(self._touched)
        return Changes(come, gone, tuple(dict.fromkeys(touched)))

    def refs(self) -> list[KeyedRef]:
        """Weak references to all of them, oldest first."""
        return self._modules.refs()

    def ref(self, key: int) -> KeyedRef | None:
        """The weak reference to the module of this id."""
        return self._modules.ref(key)

    def _died(self, ref: KeyedRef) -> None:
        self._gone.append(ref)
        self.version += 1


def _taken(queue: deque[Any]) -> tuple[Any, ...]:
    """What was in it at this moment; the host's threads go on adding."""
    return tuple(queue.popleft() for _ in range(len(queue)))
