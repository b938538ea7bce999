"""A side table about the host's objects: keyed by identity, keeping nothing alive, forgetting with the object.

Objects are never hashed or compared (a module or tensor may define `__hash__` and `__eq__`, and they would be run), which is
also why `weakref.WeakKeyDictionary` won't do; `torch.utils.weak.WeakIdKeyDictionary` makes a reference per look-up, ten times
the cost of this one.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from types import CodeType
from typing import Any, Generic, TypeVar

from gpumodels.support.resident import resident

Value = TypeVar("Value")


@resident
class KeyedRef(weakref.ref[Any]):
    """A weak reference that knows its key, so that one bound method serves as the callback of all, and carries the value."""

    __slots__ = ("key", "value")
    key: int
    value: Any


@resident
class WeakTable(Generic[Value]):
    """Values by living object, in the order of their coming. Safe between threads: each step is one dict operation."""

    def __init__(self, on_death: Callable[[KeyedRef], None] | None = None) -> None:
        self._refs: dict[int, KeyedRef] = {}
        self._on_death = on_death

    @property
    def by_id(self) -> Mapping[int, KeyedRef]:
        """The table itself, for who looks things up too often to call a method."""
        return self._refs

    def __len__(self) -> int:
        return len(self._refs)

    def __contains__(self, owner: object) -> bool:
        return id(owner) in self._refs

    def put(self, owner: object, value: Value) -> KeyedRef:
        """Remember this value for as long as the object lives."""
        key = id(owner)
        ref = self._refs.get(key)
        if ref is None:
            ref = KeyedRef(owner, self._forget)  # no constructor of its own: it would take as long as all the rest
            ref.key, ref.value = key, value
            self._refs[key] = ref
        else:  # of the same object: one that died is forgotten before its id is another's
            ref.value = value
        return ref

    def get(self, owner: object) -> Value | None:
        """What is remembered about the object."""
        ref = self._refs.get(id(owner))
        return None if ref is None else ref.value

    def take(self, owner: object) -> Value | None:
        """What is remembered about the object, forgotten with this: no weak reference to it stays."""
        ref = self._refs.pop(id(owner), None)
        return None if ref is None else ref.value

    def refs(self) -> list[KeyedRef]:
        """Weak references to all objects, the oldest first."""
        return list(self._refs.values())

    def ref(self, key: int) -> KeyedRef | None:
        """The weak reference to the object of this id."""
        return self._refs.get(key)

    @staticmethod
    def entries() -> tuple[CodeType, ...]:
        """The code by which calls come in here from the host's threads: an object dies wherever its last holder lets go of it."""
        return (WeakTable._forget.__code__,)

    def _forget(self, ref: KeyedRef) -> None:
        if self._refs.get(ref.key) is ref:
            del self._refs[ref.key]
            if self._on_death is not None:
                self._on_death(ref)
