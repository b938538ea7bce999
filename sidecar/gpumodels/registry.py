"""Which modules live: weak references only, learned from torch's registration hooks, one sweep at start, and copies made."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from gpumodels.resident import resident
from gpumodels.weak_table import KeyedRef, WeakTable

if TYPE_CHECKING:
    from torch import nn


@resident
class Registry:
    """Live modules, oldest first. The host's threads add, the sidecar's reads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._modules: WeakTable[int] = WeakTable(on_death=self.touch)
        """With when each came into being, realtime nanoseconds; 0 where nobody saw that."""
        self.known = self._modules.by_id
        """Of whom there is nothing new to know; by id, to look into only."""
        self._clock = clock
        self.version = 0
        """Goes up whenever a module came, went, or was touched: equal versions, nothing to scan."""
        self.arrivals = 0
        """Goes up whenever a module came, or something was loaded into one: a user waits to see it."""
        self.grew_at = float("-inf")
        """When the last unknown module came, on `clock`: the host may be in the middle of building a model."""

    def __len__(self) -> int:
        return len(self._modules)

    def add_new(self, module: nn.Module) -> None:
        """Know this module, which is being built, from now on. A model is built by thousands of these."""
        if id(module) not in self.known:
            self._modules.put(module, time.time_ns())
            self.version += 1
            self.arrivals += 1
            self.grew_at = self._clock()

    def add(self, module: nn.Module, born_ns: int = 0) -> None:
        """Know this module from now on. Nobody saw it being built, unless `born_ns` says when."""
        if module not in self._modules:
            self._modules.put(module, born_ns)
            self.version += 1
            self.arrivals += 1
            self.grew_at = self._clock()

    def add_all(self, modules: Iterable[nn.Module]) -> None:
        """Know all of these."""
        for module in modules:
            self.add(module)

    def born_ns(self, key: int) -> int:
        """When the module of this id was built, realtime nanoseconds; 0 where nobody saw that: an older one, or a copy."""
        ref = self._modules.ref(key)
        return 0 if ref is None else int(ref.value)

    def touch(self) -> None:
        """Something about known modules changed: one died, parameters were set, moved, cast."""
        self.version += 1

    def loaded(self) -> None:
        """Weights or patches were loaded into known modules."""
        self.version += 1
        self.arrivals += 1

    def refs(self) -> list[KeyedRef]:
        """Weak references to all of them, oldest first."""
        return self._modules.refs()

    def ref(self, key: int) -> KeyedRef | None:
        """The weak reference to the module of this id."""
        return self._modules.ref(key)
