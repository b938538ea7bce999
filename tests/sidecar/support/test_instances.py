"""What objects hold is read as the interpreter has it: no line of the host's classes runs."""

from __future__ import annotations

from collections import OrderedDict, UserDict, defaultdict, deque, namedtuple
from fractions import Fraction
from typing import Any

import pytest

from gpumodels.support.instances import (
    ITEMS,
    class_attribute,
    container_of,
    has_more_than_state,
    is_a,
    items_of,
    mro_of,
    name_of,
    package_of,
    state_getter,
    state_of,
    values_of,
    with_slots_and_items,
)

RAN: list[str] = []
"""What was run of the classes below."""


class NosyType(type):
    def __getattribute__(cls, name: str) -> Any:
        RAN.append(name)
        return super().__getattribute__(name)


class Nosy(metaclass=NosyType):
    """Tells of every look at its objects."""

    def __init__(self) -> None:
        object.__setattr__(self, "held", 7)

    def __getattribute__(self, name: str) -> Any:
        RAN.append(name)
        return object.__getattribute__(self, name)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        RAN.append("__class__")
        return int


class Slotted:
    __slots__ = ("empty", "full")

    def __init__(self) -> None:
        self.full = "slot"


class SlottedBelow(Slotted):
    """With a dictionary too."""

    def __init__(self) -> None:
        super().__init__()
        self.more = "dictionary"


SOUGHT = object()


class Hiding:
    """With something else where its dictionary would be."""

    def __init__(self) -> None:
        self.kept = SOUGHT

    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        RAN.append("__dict__")
        return {"made": "up"}


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


def test_nothing_of_a_class_or_its_metaclass_is_asked() -> None:
    nosy = Nosy()
    RAN.clear()
    kind: Any = type(nosy)
    held = (state_of(nosy), dict(values_of(nosy)), is_a(nosy, int), is_a(nosy, Nosy), name_of(kind), package_of(kind))
    container, mro, found = container_of(mro_of(kind)), mro_of(kind), class_attribute(kind, "__init__")
    assert RAN == []
    assert held == ({"held": 7}, {"held": 7}, False, True, "Nosy", __name__.partition(".")[0])
    assert (container, len(mro), found.__name__) == (None, 2, "__init__")


def test_what_stands_in_slots_is_found_with_what_stands_in_the_dictionary() -> None:
    assert dict(values_of(Slotted())) == {"full": "slot"}
    assert dict(values_of(SlottedBelow())) == {"full": "slot", "more": "dictionary"}
    assert state_of(Slotted()) == state_of(5) == {}


def test_what_an_object_holds_is_found_where_its_class_shows_something_else() -> None:
    hiding = Hiding()
    assert state_of(hiding) == {}
    assert any(value is SOUGHT for _, value in values_of(hiding))
    assert RAN == []


def test_the_dictionary_is_the_objects_own_also_where_a_class_below_hides_it() -> None:
    class Plain:
        pass

    class HidingBelow(Plain):
        @property
        def __dict__(self) -> Any:  # type: ignore[override]
            raise AssertionError("foreign code ran")

    hiding = HidingBelow()
    hiding.held = 7  # type: ignore[attr-defined]
    assert state_of(hiding) == state_getter(Plain)(hiding) == {"held": 7}
    state_of(hiding)["more"] = 8
    assert hiding.more == 8  # type: ignore[attr-defined]


def test_attributes_that_come_meanwhile_end_no_walk() -> None:
    thing = SlottedBelow()
    for number, _ in enumerate(values_of(thing)):
        setattr(thing, f"new{number}", number)
    assert len(state_of(thing)) == 3


def test_what_a_class_has_under_a_name_is_its_nearest_bases_as_it_stands_there() -> None:
    class Upper:
        one = two = "upper"

        @property
        def three(self) -> str:
            raise AssertionError("foreign code ran")

    class Lower(Upper):
        two = "lower"

    assert [class_attribute(Lower, name) for name in ("one", "two", "four")] == ["upper", "lower", None]
    assert type(class_attribute(Lower, "three")) is property


def test_the_package_is_the_first_part_of_the_module_that_a_class_names() -> None:
    class Odd:
        pass

    Odd.__module__ = 7  # type: ignore[assignment]
    assert package_of(UserDict) == "collections"
    assert package_of(OrderedDict) is None  # written in C, and says nothing itself
    assert package_of(type("Deep", (), {"__module__": "some.package.module"})) == "some"
    assert package_of(Odd) is None


Pair = namedtuple("Pair", ["one", "two"])


class OwnList(list[Any]):
    def __iter__(self) -> Any:
        raise AssertionError("foreign code ran")


class OwnDict(dict[Any, Any]):
    def __len__(self) -> int:
        raise AssertionError("foreign code ran")

    def keys(self) -> Any:
        raise AssertionError("foreign code ran")


@pytest.mark.parametrize(
    ("thing", "container", "keys", "values"),
    [
        ([1, 2, 3], list, None, [1, 2]),
        (OwnList([1, 2, 3]), list, None, [1, 2]),
        (Pair(1, 2), tuple, None, [1, 2]),
        (deque([1]), deque, None, [1]),
        (frozenset({5}), frozenset, None, [5]),
        ({"a": 1}, dict, ["a"], [1]),
        (OwnDict(a=1, b=2, c=3), dict, ["a", "b"], [1, 2]),
        (OrderedDict(a=1, b=2), dict, ["a", "b"], [1, 2]),
        (defaultdict(int, a=1), dict, ["a"], [1]),
    ],
    ids=lambda one: type(one).__name__,
)
def test_containers_give_their_first_items_by_pythons_own_iteration(
    thing: Any, container: type, keys: list[Any] | None, values: list[Any]
) -> None:
    found = container_of(mro_of(type(thing)))
    assert found is container
    assert items_of(thing, container, 2) == (keys, values)


@pytest.mark.parametrize("thing", [UserDict(), "text", Fraction(1), Slotted()], ids=lambda one: type(one).__name__)
def test_what_only_looks_like_a_container_is_none(thing: Any) -> None:
    assert container_of(mro_of(type(thing))) is None


class NumbersBelow(list[int]):
    __slots__ = ("__dict__", "kept")
    kept: str

    def __iter__(self) -> Any:
        raise AssertionError("foreign code ran")


def test_slots_and_items_stand_beside_the_instance_dictionary_which_stays_as_it_was() -> None:
    thing = NumbersBelow([1, 2, 3])
    vars(thing)["name"] = "dictionary"
    thing.kept = "slot"
    state = state_of(thing)
    assert with_slots_and_items(thing, state, 2) == {"name": "dictionary", "kept": "slot", ITEMS: [1, 2]}
    assert state == {"name": "dictionary"}


def test_only_slots_and_items_are_more_than_an_instance_dictionary() -> None:
    assert [has_more_than_state(kind) for kind in (Slotted, SlottedBelow, NumbersBelow, dict, Nosy)] == [True] * 4 + [False]
