from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Mapping

import msgspec
import pytest

from gpumodels_shared import schema
from gpumodels_shared.records import Record, field, replace


class Tyre(Record):
    """With a default of each kind."""

    make: str
    inches: int = 19
    marks: Mapping[str, int] = field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Standard:
    """The same, by the standard library alone."""

    make: str
    inches: int = 19
    marks: Mapping[str, int] = dataclasses.field(default_factory=dict)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        (("a",), {}),
        (("a", 20), {}),
        (("a", 20, {"x": 1}), {}),
        ((), {"make": "a"}),
        ((), {"marks": {"x": 1}, "make": "a"}),
        (("a",), {"marks": {}}),
        ((), {}),
        ((), {"inches": 1}),
        (("a", 1, {}, 2), {}),
        (("a",), {"make": "b"}),
        (("a",), {"width": 1}),
        (("a", 1, {}), {"inches": 2}),
    ],
)
def test_it_takes_what_a_dataclass_of_the_standard_library_takes(values: tuple[object, ...], named: dict[str, object]) -> None:
    def made(cls: type) -> object:
        try:
            instance = cls(*values, **named)
        except TypeError:
            return TypeError
        return [getattr(instance, name) for name in ("make", "inches", "marks")]

    assert made(Tyre) == made(Standard)


def test_it_is_equal_to_its_like_alone() -> None:
    assert Tyre("a", 20) == Tyre("a", inches=20)
    assert Tyre("a", 20) != Tyre("a", 21)
    assert Tyre("a", 20) != Standard("a", 20)  # type: ignore[comparison-overlap]
    assert repr(Tyre("a")) == "Tyre(make='a', inches=19, marks={})"
    assert hash(schema.SidecarHealth(1.0)) == hash(schema.SidecarHealth(1.0))


def test_each_instance_has_a_default_of_its_own() -> None:
    assert Tyre("a").marks is not Tyre("a").marks


def test_it_is_frozen_and_takes_no_other_attributes() -> None:
    tyre = Tyre("a")
    with pytest.raises(AttributeError):
        tyre.make = "b"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        del tyre.make
    assert not hasattr(tyre, "__dict__")


class Winter(Tyre):
    """One more field than what it extends."""

    studs: int = 0


class Worn(Record, frozen=False):
    """What may be changed."""

    depth: float


def test_a_class_may_extend_another() -> None:
    assert repr(Winter("a", studs=2)) == "Winter(make='a', inches=19, marks={}, studs=2)"
    assert Winter("a") == Winter("a", 19, {}, 0) != Tyre("a")
    assert [one.name for one in dataclasses.fields(Winter)] == ["make", "inches", "marks", "studs"]
    assert [one.name for one in dataclasses.fields(Tyre)] == ["make", "inches", "marks"]


def test_what_is_not_frozen_can_be_changed_and_is_no_key() -> None:
    worn = Worn(8.0)
    worn.depth = 7.5
    assert worn == Worn(7.5)
    with pytest.raises(TypeError, match="unhashable"):
        hash(worn)


def test_a_copy_differs_in_what_was_changed_and_in_nothing_unknown() -> None:
    assert replace(Tyre("a", 20, {"x": 1}), inches=21) == Tyre("a", 21, {"x": 1})
    with pytest.raises(TypeError):
        replace(Tyre("a"), width=1)


def test_a_default_that_instances_would_share_is_refused() -> None:
    with pytest.raises(TypeError, match="default_factory"):

        class Shared(Record):
            marks: list[int] = []  # noqa: RUF012 - what is refused


def test_it_is_a_dataclass_to_whoever_asks() -> None:
    tyre = Tyre("a", 20, {"x": 1})
    assert [one.name for one in dataclasses.fields(tyre)] == ["make", "inches", "marks"]
    assert dataclasses.replace(tyre, inches=21) == Tyre("a", 21, {"x": 1})
    assert dataclasses.asdict(tyre) == {"make": "a", "inches": 20, "marks": {"x": 1}}
    assert copy.deepcopy(tyre) == copy.copy(tyre) == tyre
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(tyre), type=Tyre) == tyre
    assert msgspec.convert({"make": "a"}, Tyre) == Tyre("a")


def test_no_method_of_the_schema_is_made_for_one_class() -> None:
    """A compiled method would name the file that dataclasses compile: `<string>`."""
    records = [one for one in vars(schema).values() if dataclasses.is_dataclass(one) and isinstance(one, type)]
    assert len(records) > 10
    for one in records:
        methods = [value for value in vars(one).values() if inspect.isfunction(value)]
        assert not [method.__qualname__ for method in methods if method.__code__.co_filename.startswith("<")]
