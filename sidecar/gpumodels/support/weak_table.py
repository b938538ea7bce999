"""A table of facts about the host's objects, by identity. It keeps no object alive, and drops an entry when its object dies.

Objects are never hashed or compared, as a module or tensor may define `__hash__` and `__eq__`, which would be run. That rules out
`weakref.WeakKeyDictionary`; `torch.utils.weak.WeakIdKeyDictionary` makes a reference per look-up, which is ten times slower.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from types import CodeType
from typing import Any, Generic, TypeVar

from gpumodels.support.never_pickled import never_pickled

Value = TypeVar("Value")


@never_pickled
class KeyedRef(weakref.ref[Any]):
    """A weak reference that carries its key and value, so that one bound method can be the callback of all references."""

    __slots__ = ("key", "value")
    key: int
    value: Any


@never_pickled
class WeakTable(Generic[Value]):
    """Values by live object, in the order in which they were added. Thread-safe: each step is a single dict operation."""

    def __init__(self, on_death: Callable[[KeyedRef], None] | None = None) -> None:
        self._refs: dict[int, KeyedRef] = {}
        self._on_death = on_death

    @property
    def by_id(self) -> Mapping[int, KeyedRef]:
        """The table itself, for look-ups too frequent to pay for a method call."""
        return self._refs

    def __len__(self) -> int:
        return len(self._refs)

    def __contains__(self, owner: object) -> bool:
        return id(owner) in self._refs

    def put(self, owner: object, value: Value) -> KeyedRef:
        """Set the value for this object, to be kept for as long as the object lives."""
        key = id(owner)
        ref = self._refs.get(key)
        if ref is None:
            ref = KeyedRef(owner, self._forget)  # KeyedRef has no __init__: calling one would double the cost of this method
            ref.key, ref.value = key, value
            self._refs[key] = ref
        else:  # the same object: the entry of a dead one is removed before its id can be reused
            ref.value = value
        return ref

    def get(self, owner: object) -> Value | None:
        """The object's value; None if there is none."""
        ref = self._refs.get(id(owner))
        return None if ref is None else ref.value

    def take(self, owner: object) -> Value | None:
        """Remove the object's entry, weak reference included, and return its value; None if there was none."""
        ref = self._refs.pop(id(owner), None)
        return None if ref is None else ref.value

    def refs(self) -> list[KeyedRef]:
        """Weak references to all objects, in the order in which they were added."""
        return list(self._refs.values())

    def ref(self, key: int) -> KeyedRef | None:
        """The weak reference to the object with this id; None if there is none."""
        return self._refs.get(key)

    @staticmethod
    def entries() -> tuple[CodeType, ...]:
        """The code objects that the host's threads enter: an object dies in whichever thread drops its last reference."""
        return (WeakTable._forget.__code__,)

    def _forget(self, ref: KeyedRef) -> None:
        if self._refs.get(ref.key) is ref:
            del self._refs[ref.key]
            if self._on_death is not None:
                self._on_death(ref)
