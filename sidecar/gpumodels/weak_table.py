"""A side table about the host's objects: keyed by identity, keeping nothing alive, forgetting with the object.

Objects are never hashed or compared (a module or tensor may define `__hash__` and `__eq__`, and they would be run), which is
also why `weakref.WeakKeyDictionary` won't do; `torch.utils.weak.WeakIdKeyDictionary` makes a reference per look-up, ten times
the cost of this one.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")


class KeyedRef(weakref.ref[Any]):
    """A weak reference that knows its key, so that one bound method serves as the callback of all."""

    __slots__ = ("key",)
    key: int

    def __new__(cls, owner: object, gone: Callable[[Any], None]) -> KeyedRef:
        made = super().__new__(cls, owner, gone)
        made.key = id(owner)
        return made


class WeakTable(Generic[Value]):
    """Values by living object, in the order of their coming. Safe between threads: each step is one dict operation."""

    def __init__(self, on_death: Callable[[], None] | None = None) -> None:
        self._entries: dict[int, tuple[KeyedRef, Value]] = {}
        self._on_death = on_death

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, owner: object) -> bool:
        return id(owner) in self._entries

    def put(self, owner: object, value: Value) -> None:
        """Remember this value for as long as the object lives."""
        self._entries[id(owner)] = (KeyedRef(owner, self._forget), value)

    def get(self, owner: object) -> Value | None:
        """What is remembered about the object."""
        entry = self._entries.get(id(owner))
        return None if entry is None else entry[1]

    def take(self, owner: object) -> Value | None:
        """What is remembered about the object, forgotten with this: no weak reference to it stays."""
        entry = self._entries.pop(id(owner), None)
        return None if entry is None else entry[1]

    def refs(self) -> list[KeyedRef]:
        """Weak references to all objects, the oldest first."""
        return [ref for ref, _ in list(self._entries.values())]

    def ref(self, key: int) -> KeyedRef | None:
        """The weak reference to the object of this id."""
        entry = self._entries.get(key)
        return None if entry is None else entry[0]

    def _forget(self, ref: KeyedRef) -> None:
        entry = self._entries.get(ref.key)
        if entry is not None and entry[0] is ref:
            del self._entries[ref.key]
            if self._on_death is not None:
                self._on_death()
