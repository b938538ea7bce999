"""Finding objects among all of the collector's: exactly those, and harmlessly for tuples that other threads build meanwhile."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterator
from typing import Final

import pytest

from gpumodels.support.tracked_objects import TrackedObjects, referrers_of
from launched import OURS
from processes import run_python


class Kind:
    pass


class OtherKind:
    pass


class Below(Kind):
    pass


def test_objects_of_exactly_these_classes_are_found() -> None:
    there = [Kind(), OtherKind(), Below(), Kind()]
    tracked = TrackedObjects(gc.get_objects, [Kind, OtherKind], there)
    assert {id(one) for one in tracked.found} == {id(there[0]), id(there[1]), id(there[3])}
    assert {id(one) for one in tracked.of([Kind])} == {id(there[0]), id(there[3])}
    assert tracked.of([Below]) == []
    assert tracked.is_there
    assert not TrackedObjects(gc.get_objects, [Kind], object()).is_there


def test_a_class_whose_metaclass_hashes_is_found_without_running_it() -> None:
    class Hashing(type):
        def __hash__(cls) -> int:
            raise AssertionError("foreign code ran")

    class Strange(metaclass=Hashing):
        pass

    one = Strange()
    assert [id(found) for found in TrackedObjects(gc.get_objects, [Strange]).found] == [id(one)]


def test_referrers_are_searched_in_the_same_way() -> None:
    one = Kind()
    holder = [one]
    found = TrackedObjects(gc.get_referrers, [list], holder, (one,))
    assert any(other is holder for other in found.found)
    assert found.is_there


def test_a_tuple_that_is_being_built_is_no_referrer() -> None:
    one = Kind()
    whole = (one, 1)
    seen: list[list[bool]] = []

    def items() -> Iterator[object]:
        yield one
        found = referrers_of((one,))
        seen.append([other is whole for other in found if type(other) is tuple and len(other) != 1])
        del found
        yield from range(100)

    asked = (one,)
    assert [id(other) for other in referrers_of(asked) if type(other) is tuple and other is not asked] == [id(whole)]
    built = tuple(items())
    assert len(built) == 101
    assert seen == [[True]]
    assert {id(other) for other in referrers_of((one,)) if type(other) is tuple} >= {id(whole), id(built)}


@pytest.mark.parametrize("is_on", [True, False])
def test_the_collector_is_left_as_it_was(is_on: bool) -> None:
    were_on = gc.isenabled()
    (gc.enable if is_on else gc.disable)()
    try:
        TrackedObjects(gc.get_objects, [Kind])
        assert gc.isenabled() is is_on

        def fails() -> list[object]:
            raise MemoryError

        with pytest.raises(MemoryError):
            TrackedObjects(fails, [Kind])
        assert gc.isenabled() is is_on
    finally:
        (gc.enable if were_on else gc.disable)()


def test_no_reference_to_anything_else_stays() -> None:
    one, other = Kind(), OtherKind()
    before = sys.getrefcount(one), sys.getrefcount(other)
    tracked = TrackedObjects(gc.get_objects, [Kind])
    assert (sys.getrefcount(one), sys.getrefcount(other)) == (before[0] + 1, before[1])
    del tracked
    assert (sys.getrefcount(one), sys.getrefcount(other)) == before


AUDITED: Final = """
import gc, sys, threading
from gpumodels.support.tracked_objects import TrackedObjects

class Kind: pass
seen = []
sys.addaudithook(lambda event, arguments: seen.append(event))
TrackedObjects(gc.get_objects, [Kind])
print(sorted({event for event in seen if event.startswith(("gc.", "builtins."))}))
"""


@pytest.mark.slow
def test_nothing_that_watches_audit_events_runs_meanwhile() -> None:
    """But for the one event at the beginning, when nothing is held yet."""
    assert run_python(AUDITED, environment={"PYTHONPATH": OURS}).stdout == "['gc.get_objects']\n"


@pytest.mark.slow
def test_tuples_that_other_threads_build_meanwhile_are_left_alone() -> None:
    """Whoever holds a list of all objects while other threads run makes them fail."""
    many = [[number] for number in range(500_000)]
    failures: list[BaseException] = []
    is_over = threading.Event()

    def build() -> None:
        while not is_over.is_set():
            try:
                tuple(number for number in range(1000))
            except SystemError as error:
                failures.append(error)

    threads = [threading.Thread(target=build) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            assert TrackedObjects(gc.get_objects, [Kind]).found == []
        assert failures == []
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert len(many) == 500_000
