"""What an object holds, read without running its code: instance dictionaries and slots by the interpreter's own descriptors.

A class may define `__dict__`, `__getattribute__`, `__iter__` or `__mro__` of its own; none of them is called.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Iterator
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any, Final, TypeGuard, TypeVar

Kind = TypeVar("Kind")

mro_of: Final[Callable[[Any], tuple[type, ...]]] = type.__dict__["__mro__"].__get__
"""A class and its bases."""
name_of: Final[Callable[[Any], str]] = type.__dict__["__name__"].__get__
"""A class's name."""
_class_dict: Final[Callable[[Any], Any]] = type.__dict__["__dict__"].__get__


def is_a(thing: Any, kind: type[Kind]) -> TypeGuard[Kind]:
    """Whether its class is this one or below it; `isinstance` asks a property `__class__` where it isn't."""
    return type.__subclasscheck__(kind, type(thing))


_DESCRIPTORS: Final = frozenset({GetSetDescriptorType, MemberDescriptorType})


def package_of(kind: type) -> str | None:
    """The top-level package of a class; None for classes written in C that don't say."""
    module = _class_dict(kind).get("__module__")
    return module.partition(".")[0] if type(module) is str else None


def class_attribute(kind: type, name: str) -> Any:
    """What the class or the nearest of its bases has under this name, as it stands there; None where nobody has it."""
    return next((namespace[name] for base in mro_of(kind) if name in (namespace := _class_dict(base))), None)


def state_of(thing: Any) -> dict[str, Any]:
    """An object's own instance dictionary; empty where it has none, or none that is to be had without its class's code."""
    for base in reversed(mro_of(type(thing))):
        descriptor = _class_dict(base).get("__dict__")
        if type(descriptor) in _DESCRIPTORS:
            state = descriptor.__get__(thing)
            return state if type(state) is dict else {}
    return {}


def state_getter(kind: type) -> Callable[[Any], dict[str, Any]]:
    """`state_of` for objects of this class and those derived from it, at a tenth of the cost: whatever they have instead."""
    getter: Callable[[Any], dict[str, Any]] = _class_dict(kind)["__dict__"].__get__
    return getter


def _hides_its_state(kind: type) -> bool:
    """Whether the class put something of its own in the place of `__dict__`."""
    found = [descriptor for base in mro_of(kind) if (descriptor := _class_dict(base).get("__dict__")) is not None]
    return bool(found) and not any(type(descriptor) in _DESCRIPTORS for descriptor in found)


def values_of(thing: Any) -> Iterator[tuple[str, Any]]:
    """An object's attributes by name: what its instance dictionary and its slots hold."""
    yield from [*state_of(thing).items()]
    if _hides_its_state(type(thing)):  # the garbage collector knows what it holds, though not by which names
        yield from ((str(number), held) for number, held in enumerate(gc.get_referents(thing)))
    for base in mro_of(type(thing)):
        for name, descriptor in [*_class_dict(base).items()]:
            if type(descriptor) is MemberDescriptorType and name not in ("__dict__", "__weakref__"):
                try:
                    value = descriptor.__get__(thing)
                except AttributeError:  # an empty slot
                    continue
                yield name, value


def container_of(mro: tuple[type, ...]) -> type | None:
    """Which of Python's containers an object of this class is; None for any other."""
    for base in mro:
        if base in _CONTAINERS:
            return base
    return None


def items_of(thing: Any, container: type, limit: int) -> tuple[list[Any] | None, list[Any]]:
    """The first keys (of a dict) and values of a container, by Python's own iteration."""
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
