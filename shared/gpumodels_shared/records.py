"""Frozen dataclasses that are quickly made: none of their methods is compiled.

The standard library writes the source of every dataclass's methods and compiles it while its module is imported. For the schema
that takes 10 ms, at each start of the viewer and in each process with a sidecar. Here all classes share the same methods, and are
dataclasses all the same: to `dataclasses.fields` and `replace`, to msgspec, and to type checkers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

__all__ = ["record"]

T = TypeVar("T")


class _Shape(NamedTuple):
    """What the shared methods know of a class."""

    names: tuple[str, ...]
    puts: tuple[Callable[[object, object], None], ...]
    """Set the fields, in the same order."""
    known: frozenset[str]
    defaults: Mapping[str, object]
    factories: Mapping[str, Callable[[], object]]
    values: Callable[[object], Any]
    """All values of an instance, for comparing."""


_shapes: Final[dict[type, _Shape]] = {}


def _init(self: object, *values: object, **named: object) -> None:
    names, puts, known, defaults, factories, _ = _shapes[type(self)]
    if named or len(values) != len(names):
        if (
            len(values) > len(names)
            or not named.keys() <= known
            or (values and not named.keys().isdisjoint(names[: len(values)]))
        ):
            raise TypeError(f"{type(self).__name__}() got a value too many, one twice, or one that it has no field for")
        given = {**defaults, **named}
        for name, factory in factories.items():
            if name not in given:
                given[name] = factory()
        try:
            values += tuple(map(given.__getitem__, names[len(values) :]))
        except KeyError as missing:
            raise TypeError(f"{type(self).__name__}() needs a value for {missing}") from None
    for put, value in zip(puts, values, strict=True):
        put(self, value)


def _eq(self: object, other: object) -> Any:
    if type(other) is not type(self):
        return NotImplemented
    values = _shapes[type(self)].values
    return values(self) == values(other)


def _hash(self: object) -> int:
    return hash(_shapes[type(self)].values(self))


def _repr(self: object) -> str:
    named = (f"{name}={getattr(self, name)!r}" for name in _shapes[type(self)].names)
    return f"{type(self).__qualname__}({', '.join(named)})"


def _reduce(self: object) -> tuple[type, tuple[object, ...]]:
    return type(self), tuple(getattr(self, name) for name in _shapes[type(self)].names)


def _refuse(self: object, name: str, value: object = None) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot change {name!r} of a {type(self).__name__}")


_METHODS: Final[dict[str, Callable[..., Any]]] = {
    "__init__": _init,
    "__eq__": _eq,
    "__hash__": _hash,
    "__repr__": _repr,
    "__reduce__": _reduce,
    "__setattr__": _refuse,
    "__delattr__": _refuse,
}


def _record(*, frozen: bool, slots: bool) -> Callable[[type[T]], type[T]]:
    """What `dataclass(frozen=True, slots=True)` does, for a class without a base and without methods of these names."""
    if not (frozen and slots):
        raise TypeError("a record is frozen and has slots")

    def made(cls: type[T]) -> type[T]:
        for name, method in _METHODS.items():
            setattr(cls, name, method)
        made = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True)(cls)
        _shapes[made] = _shape(made, dataclasses.fields(made))  # type: ignore[arg-type]
        return made

    return made


def _shape(cls: type, fields: tuple[dataclasses.Field[Any], ...]) -> _Shape:
    names = tuple(field.name for field in fields)
    return _Shape(
        names,
        tuple(getattr(cls, name).__set__ for name in names),
        frozenset(names),
        {field.name: field.default for field in fields if field.default is not dataclasses.MISSING},
        {field.name: field.default_factory for field in fields if field.default_factory is not dataclasses.MISSING},
        attrgetter(*names),
    )


if TYPE_CHECKING:
    from dataclasses import dataclass as record
else:
    record = _record
