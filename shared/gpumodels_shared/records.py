"""Classes of a few fields that are quickly made: nothing is compiled for them, and nothing large is imported.

The standard library writes the source of every dataclass's methods and compiles it, and reads source code with `inspect` to do
so; msgspec's Structs come with all of msgspec. Either takes a sixth of the time in which `--once` is over. Here all classes share
the same methods. They are dataclasses all the same: to `dataclasses.fields` and `replace`, to msgspec, and to type checkers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import repeat
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

if TYPE_CHECKING:
    from typing import ClassVar

    from typing_extensions import dataclass_transform

__all__ = ["Record", "field", "field_names", "replace"]

T = TypeVar("T")


class _Default:
    """Makes a default value for each instance."""

    __slots__ = ("factory",)

    def __init__(self, factory: Callable[[], object]) -> None:
        self.factory = factory


class _Shape:
    """What the shared methods know of a class."""

    __slots__ = ("defaults", "factories", "given", "known", "names", "values")

    def __init__(self, names: tuple[str, ...], given: Mapping[str, object]) -> None:
        self.names = names
        self.given = given
        self.known = frozenset(names)
        self.defaults = {name: value for name, value in given.items() if not isinstance(value, _Default)}
        self.factories = {name: value.factory for name, value in given.items() if isinstance(value, _Default)}
        self.values: Callable[[object], tuple[object, ...]] = _getter(names)
        """All values of an instance."""


def _getter(names: tuple[str, ...]) -> Callable[[object], Any]:
    if len(names) > 1:
        return attrgetter(*names)
    return lambda record: tuple(getattr(record, name) for name in names)


_shapes: Final[dict[type, _Shape]] = {}
_put: Final = object.__setattr__


def field(*, default_factory: Callable[[], T]) -> T:
    """The default of a field of which each instance has its own."""
    return cast("T", _Default(default_factory))


def field_names(cls: type) -> tuple[str, ...]:
    """The names of the fields of a class of records, in their order."""
    return _shapes[cls].names


def replace(record: T, **changes: object) -> T:
    """A copy of the record with other values for some of its fields.

    Raises:
        TypeError: it has no such field.
    """
    shape = _shapes[type(record)]
    return type(record)(**{**dict(zip(shape.names, shape.values(record), strict=True)), **changes})


class _RecordType(type):
    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], *, frozen: bool = True) -> _RecordType:
        """Make a class whose annotated fields are its slots."""
        before = next((_shapes[base] for base in bases if base in _shapes), None)
        hints = namespace.get("__annotations__", {})
        names = tuple(one for one in hints if not hints[one].startswith("ClassVar"))
        defaults = {one: namespace.pop(one) for one in names if one in namespace}
        if any(isinstance(value, (list, dict, set)) for value in defaults.values()):
            raise TypeError(f"{name}: a default that instances would share; use field(default_factory=…)")
        namespace["__slots__"] = namespace["__match_args__"] = names
        if not frozen:
            namespace |= {"__setattr__": object.__setattr__, "__delattr__": object.__delattr__, "__hash__": None}
        made = super().__new__(mcs, name, bases, namespace)
        if before is not None:
            names, defaults = before.names + names, {**before.given, **defaults}
        _shapes[made] = _Shape(names, defaults)
        return made

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], *, frozen: bool = True) -> None:
        super().__init__(name, bases, namespace)


class _DataclassFields:
    """`__dataclass_fields__`, made when somebody asks for it."""

    def __get__(self, instance: object, cls: type) -> dict[str, Any]:
        import dataclasses

        shape = _shapes[cls]
        hints = {name: hint for base in reversed(cls.__mro__) for name, hint in vars(base).get("__annotations__", {}).items()}
        defaults: dict[str, Any] = {name: dataclasses.field(default=value) for name, value in shape.defaults.items()}
        defaults |= {name: dataclasses.field(default_factory=factory) for name, factory in shape.factories.items()}
        fields = [(name, hints[name], defaults.get(name, dataclasses.field())) for name in shape.names]
        twin = dataclasses.make_dataclass(cls.__name__, fields, init=False, repr=False, eq=False)
        found: dict[str, Any] = vars(twin)["__dataclass_fields__"]
        if found:  # else it is the class of all records, of which the others would inherit that there are none
            type.__setattr__(cls, "__dataclass_fields__", found)
        return found


class _Record(metaclass=_RecordType):
    """A class of records: `class Point(Record):`, or `class Counter(Record, frozen=False):` for what changes."""

    __dataclass_fields__ = _DataclassFields()

    def __init__(self, *values: object, **named: object) -> None:
        shape = _shapes[type(self)]
        names = shape.names
        if named.keys() == shape.known and not values:
            names, values = tuple(named), tuple(named.values())
        elif named or len(values) != len(names):
            if (
                len(values) > len(names)
                or not named.keys() <= shape.known
                or (values and not named.keys().isdisjoint(names[: len(values)]))
            ):
                raise TypeError(f"{type(self).__name__}() got a value too many, one twice, or one that it has no field for")
            given = {**shape.defaults, **named}
            for name, factory in shape.factories.items():
                if name not in given:
                    given[name] = factory()
            try:
                values += tuple(map(given.__getitem__, names[len(values) :]))
            except KeyError as missing:
                raise TypeError(f"{type(self).__name__}() needs a value for {missing}") from None
        any(map(_put, repeat(self), names, values))  # as a loop in C: it puts each value into its slot

    def __eq__(self, other: object) -> Any:
        if type(other) is not type(self):
            return NotImplemented
        values = _shapes[type(self)].values
        return values(self) == values(other)

    def __hash__(self) -> int:
        return hash(_shapes[type(self)].values(self))

    def __repr__(self) -> str:
        named = (f"{name}={getattr(self, name)!r}" for name in _shapes[type(self)].names)
        return f"{type(self).__qualname__}({', '.join(named)})"

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), _shapes[type(self)].values(self)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"cannot change {name!r} of a {type(self).__name__}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"cannot change {name!r} of a {type(self).__name__}")


if TYPE_CHECKING:

    @dataclass_transform(frozen_default=True, field_specifiers=(field,))
    class Record:
        """A class of records: `class Point(Record):`, or `class Counter(Record, frozen=False):` for what changes."""

        __dataclass_fields__: ClassVar[dict[str, Any]]

        def __init_subclass__(cls, *, frozen: bool = True) -> None: ...
else:
    Record = _Record
