"""Reads what an object holds without running its code: instance dictionaries and slots, by the interpreter's own descriptors.

A class may define its own `__dict__`, `__getattribute__`, `__iter__` or `__mro__`; none of them is called.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Iterator
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any, Final, TypeGuard, TypeVar

Kind = TypeVar("Kind")

ITEMS: Final = "items()"
"""Stands for the items of an object that is a list or dict as well: no attribute has such a name."""

mro_of: Final[Callable[[Any], tuple[type, ...]]] = type.__dict__["__mro__"].__get__
"""A class and its bases, in method resolution order."""
name_of: Final[Callable[[Any], str]] = type.__dict__["__name__"].__get__
"""The `__name__` of a class, a metaclass's own property not run."""
class_dict: Final[Callable[[Any], Any]] = type.__dict__["__dict__"].__get__


def is_a(thing: Any, kind: type[Kind]) -> TypeGuard[Kind]:
    """Whether the object's class is `kind` or a subclass. `isinstance` would also run a `__class__` property where it isn't."""
    return type.__subclasscheck__(kind, type(thing))


_DESCRIPTORS: Final = frozenset({GetSetDescriptorType, MemberDescriptorType})


def package_of(kind: type) -> str | None:
    """The top-level package of a class; None for classes written in C that have no `__module__`."""
    module = class_dict(kind).get("__module__")
    return module.partition(".")[0] if type(module) is str else None


def class_attribute(kind: type, name: str) -> Any:
    """The attribute as it stands in the namespace of the class or its nearest base, not bound; None where none defines it."""
    return next((namespace[name] for base in mro_of(kind) if name in (namespace := class_dict(base))), None)


def state_of(thing: Any) -> dict[str, Any]:
    """The object's instance dictionary; empty where it has none, or none that can be read without running its class's code."""
    for base in reversed(mro_of(type(thing))):
        descriptor = class_dict(base).get("__dict__")
        if type(descriptor) in _DESCRIPTORS:
            state = descriptor.__get__(thing)
            return state if type(state) is dict else {}
    return {}


def state_getter(kind: type) -> Callable[[Any], dict[str, Any]]:
    """`state_of` for objects of this class and its subclasses, at a tenth of the cost, even if a subclass defines `__dict__`."""
    getter: Callable[[Any], dict[str, Any]] = class_dict(kind)["__dict__"].__get__
    return getter


def _hides_its_state(kind: type) -> bool:
    """Whether the class replaced the `__dict__` descriptor by something of its own."""
    found = [descriptor for base in mro_of(kind) if (descriptor := class_dict(base).get("__dict__")) is not None]
    return bool(found) and not any(type(descriptor) in _DESCRIPTORS for descriptor in found)


def values_of(thing: Any) -> Iterator[tuple[str, Any]]:
    """Names and values of the attributes in an object's instance dictionary and slots."""
    yield from [*state_of(thing).items()]
    if _hides_its_state(type(thing)):  # the garbage collector knows what it holds, but not under which names
        yield from ((str(number), held) for number, held in enumerate(gc.get_referents(thing)))
    yield from _slots_of(thing)


def _slots_of(thing: Any) -> Iterator[tuple[str, Any]]:
    for name, descriptor in _slot_descriptors(type(thing)):
        try:
            value = descriptor.__get__(thing)
        except AttributeError:  # an empty slot
            continue
        yield name, value


def _slot_descriptors(kind: type) -> Iterator[tuple[str, Any]]:
    for base in mro_of(kind):
        for name, descriptor in [*class_dict(base).items()]:
            if type(descriptor) is MemberDescriptorType and name not in ("__dict__", "__weakref__"):
                yield name, descriptor


def has_more_than_state(kind: type) -> bool:
    """Whether objects of this class may hold something outside their instance dictionaries: in slots, or as a list or dict."""
    return container_of(mro_of(kind)) is not None or any(True for _ in _slot_descriptors(kind))


def with_slots_and_items(thing: Any, state: dict[str, Any], limit: int) -> dict[str, Any]:
    """A copy of the object's instance dictionary with the values of its slots and, under `ITEMS`, its first `limit` items."""
    held = dict(state)
    for name, value in _slots_of(thing):
        held.setdefault(name, value)
    if (container := container_of(mro_of(type(thing)))) is not None:
        _, held[ITEMS] = items_of(thing, container, limit)
    return held


def container_of(mro: tuple[type, ...]) -> type | None:
    """Which built-in container (list, tuple, dict, set, frozenset, deque) a class with this MRO is; None for any other class."""
    for base in mro:
        if base in _CONTAINERS:
            return base
    return None


def items_of(thing: Any, container: type, limit: int) -> tuple[list[Any] | None, list[Any]]:
    """The first `limit` keys (None unless it is a dict) and values of a container, by the built-in type's own iteration.

    Args:
        thing: the object.
        container: which container it is, by `container_of`.
        limit: the most items to return.
    """
    if container is dict:
        if dict.__len__(thing) <= limit:
            return list(dict.keys(thing)), list(dict.values(thing))
        pairs = [pair for pair, _ in zip(dict.items(thing), range(limit), strict=False)]
        return [key for key, _ in pairs], [value for _, value in pairs]
    iterate: Any = _CONTAINERS[container]
    return None, [value for value, _ in zip(iterate(thing), range(limit), strict=False)]


_CONTAINERS: Final[dict[type, Any]] = {
    list: list.__iter__,
    tuple: tuple.__iter__,
    dict: dict.__iter__,
    set: set.__iter__,
    frozenset: frozenset.__iter__,
    deque: deque.__iter__,
}
