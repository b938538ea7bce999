from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Mapping

import msgspec
import pytest

from gpumodels_shared import schema
from gpumodels_shared.records import record


@record(frozen=True, slots=True)
class Tyre:
    """With a default of each kind."""

    make: str
    inches: int = 19
    marks: Mapping[str, int] = dataclasses.field(default_factory=dict)


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
    with pytest.raises(dataclasses.FrozenInstanceError):
        tyre.make = "b"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        del tyre.make
    assert not hasattr(tyre, "__dict__")


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
