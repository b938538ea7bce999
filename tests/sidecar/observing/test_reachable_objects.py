from __future__ import annotations

import sys
import types
import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from typing import Any

import pytest
import torch
from torch import nn

from gpumodels.observing.reachable_objects import (
    HOST_CODE,
    INSTALLED,
    LATE_ITEMS,
    LIBRARY,
    MAX_ITEMS,
    ReachableObjects,
    Root,
    SeenObjects,
    roots_of_process,
)

CLOSED = (nn.Module, torch.Tensor)


class Thing(nn.Module):
    """What is searched for."""


class Slotted:
    __slots__ = ("one",)
    one: Thing


class Plain:
    """A plain object."""


def in_attribute(thing: Thing) -> Any:
    holder = Plain()
    holder.__dict__["state"] = {"models": [(thing,)]}
    return holder


def in_slot(thing: Thing) -> Any:
    holder = Slotted()
    holder.one = thing
    return holder


def in_class(thing: Thing) -> Any:
    return type("Service", (), {"model": thing, "__module__": "an_app"})


def in_closure(thing: Thing) -> Any:
    return lambda: thing


def in_default(thing: Thing) -> Any:
    return lambda model=thing: model


def in_cache(thing: Thing) -> Any:
    @lru_cache
    def get() -> Thing:
        return thing

    get()
    return get


def in_generator(thing: Thing) -> Any:
    def serve() -> Iterator[None]:
        model = thing
        yield
        yield model  # type: ignore[misc]

    running = serve()
    next(running)
    return running


def in_method(thing: Thing) -> Any:
    return in_attribute(thing).__repr__


def in_exception(thing: Thing) -> Any:
    def fail(model: Thing) -> None:
        raise ValueError(str(len(list(model.children()))))

    try:
        fail(thing)
    except ValueError as error:
        return error


def in_plugin(thing: Thing) -> Any:
    """A Python module that isn't in `sys.modules`."""
    plugin = types.ModuleType("plugin")
    plugin.__dict__["model"] = thing
    return plugin


HOLDERS: list[Callable[[Thing], Any]] = [
    in_attribute,
    in_slot,
    in_class,
    in_closure,
    in_default,
    in_cache,
    in_generator,
    in_method,
    in_exception,
    in_plugin,
    lambda thing: partial(print, thing),
    lambda thing: partial(print, model={1: thing}),
    lambda thing: {(1, thing)},
    lambda thing: {thing: 1},
    lambda thing: types.SimpleNamespace(model=types.MappingProxyType({"a": thing})),
]


def found_from(*held: Any, rank: int = HOST_CODE) -> list[Any]:
    found: list[Any] = []
    walk = ReachableObjects([({Thing}, found.extend)], CLOSED)
    for _ in walk.walk([Root(rank, lambda: list(held))]):
        pass
    return found


@pytest.mark.parametrize("holder", HOLDERS)
def test_it_finds_what_any_kind_of_object_holds(holder: Callable[[Thing], Any]) -> None:
    thing = Thing()
    assert found_from(holder(thing))[:1] == [thing]


def test_it_finds_global_variables_and_asks_whatever_stands_for_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Thing(), Thing()
    plain = types.ModuleType("an_app")
    plain.__dict__["model"] = first
    monkeypatch.setitem(sys.modules, "an_app", plain)
    monkeypatch.setitem(sys.modules, "another_app", in_attribute(second))
    found: list[Any] = []
    roots = [root for root in roots_of_process() if _names(root) & {"an_app", "another_app"}]
    assert [root.rank for root in roots] == [HOST_CODE, HOST_CODE]
    for _ in ReachableObjects([({Thing}, found.extend)], CLOSED).walk(roots):
        pass
    assert found == [first, second]


def test_the_hosts_own_code_comes_first_and_libraries_last() -> None:
    roots = roots_of_process()
    ranks = {name: root.rank for root in roots for name in _names(root)}
    assert {name: ranks[name] for name in (__name__, "builtins", "pytest", "torch", "json")} == {
        __name__: HOST_CODE,
        "builtins": HOST_CODE,
        "pytest": INSTALLED,
        "torch": LIBRARY,
        "json": LIBRARY,
    }
    assert [root.rank for root in roots] == sorted(root.rank for root in roots)


def test_classes_of_libraries_are_entered_from_the_libraries_only() -> None:
    thing = Thing()
    kind = type("Registry", (), {"model": thing, "__module__": "json"})
    assert found_from(kind) == []
    assert found_from(kind, rank=LIBRARY) == [thing]


def test_what_small_objects_hold_comes_before_what_large_ones_do() -> None:
    first, last = Thing(), Thing()
    records = [[number] for number in range(LATE_ITEMS)]
    assert found_from([*records, last], in_attribute(first)) == [first, last]
    assert found_from(in_attribute(first), [*records, last]) == [first, last]


def test_larger_lists_are_data_and_are_not_entered() -> None:
    thing = Thing()
    assert found_from([[thing], *[None] * (MAX_ITEMS - 1)]) == [thing]
    assert found_from([[thing], *[None] * MAX_ITEMS]) == []


def test_no_code_of_the_host_runs() -> None:
    class Alarmed:
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError(name)

        def __eq__(self, other: object) -> bool:
            raise AssertionError

        def __hash__(self) -> int:
            raise AssertionError

    class AlarmedList(list[Any]):
        def __len__(self) -> int:
            raise AssertionError

        def __iter__(self) -> Iterator[Any]:
            raise AssertionError

    thing = Thing()
    alarmed = Alarmed()
    object.__getattribute__(alarmed, "__dict__")["held"] = AlarmedList([thing])
    assert found_from(alarmed) == [thing]


def _names(root: Root) -> set[str]:
    resolve = root.resolve
    return {one for one in resolve.args if type(one) is str} if isinstance(resolve, partial) else set()


def ticking() -> Callable[[], float]:
    """A clock by which every step takes a second: a slice is over after each."""
    ticks = iter(range(10**9))
    return lambda: float(next(ticks))


def test_it_holds_nothing_between_slices_and_goes_on_with_what_is_still_there() -> None:
    app = {"many": [in_attribute(Thing()) for _ in range(300)], "one": in_attribute(Thing()), "other": [in_attribute(Thing())]}
    found: list[weakref.ref[Thing]] = []

    def add(some: Iterable[Any]) -> None:
        found.extend(weakref.ref(one) for one in some)

    slices = 0
    for _ in ReachableObjects([({Thing}, add)], CLOSED, ticking()).walk([Root(HOST_CODE, lambda: [app])]):
        slices += 1
        if slices <= 20:
            lost = weakref.ref(app["many"].pop(slices))
            assert lost() is None
    assert slices > 50
    assert len({id(thing) for ref in found if (thing := ref()) is not None}) == 282


def test_it_ends_where_what_led_on_is_gone() -> None:
    app = {"a": [[[[Thing()]]]]}
    found: list[Any] = []
    walk = ReachableObjects([({Thing}, found.extend)], CLOSED, ticking()).walk([Root(HOST_CODE, lambda: [app])])
    next(walk)
    app.clear()
    assert list(walk) is not None
    assert found == []


def test_addresses_are_told_apart() -> None:
    seen = SeenObjects()
    addresses = [0x7F0000000000 + 16 * number for number in range(10_000)]
    assert all(seen.add(address) for address in addresses)
    assert not any(seen.add(address) for address in addresses)
