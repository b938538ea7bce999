from __future__ import annotations

import gc
from typing import Any

from gpumodels.support.weak_table import KeyedRef, WeakTable


class Owner:
    """Of the host's: to hash or compare it would run code of its own."""

    def __hash__(self) -> int:
        raise AssertionError("foreign code ran")

    def __eq__(self, other: object) -> bool:
        raise AssertionError("foreign code ran")


def test_values_are_known_by_who_owns_them_and_not_by_what_is_equal_to_it() -> None:
    table: WeakTable[str] = WeakTable()
    one, other = Owner(), Owner()
    table.put(one, "one's")
    assert (table.get(one), table.get(other)) == ("one's", None)
    assert one in table
    assert other not in table
    assert len(table) == 1


def test_a_value_goes_with_its_owner_and_whoever_asked_is_told() -> None:
    told: list[tuple[int, Any]] = []
    table: WeakTable[str] = WeakTable(on_death=lambda ref: told.append((ref.key, ref.value)))
    owner, key = Owner(), 0
    key = id(owner)
    ref = table.put(owner, "its own")
    del owner
    gc.collect()
    assert told == [(key, "its own")]
    assert (len(table), table.refs(), table.ref(key), ref()) == (0, [], None, None)


def test_another_value_of_the_same_owner_leaves_its_reference_and_its_place() -> None:
    table: WeakTable[int] = WeakTable()
    owners = [Owner() for _ in range(3)]
    refs = [table.put(owner, number) for number, owner in enumerate(owners)]
    assert table.put(owners[0], 10) is refs[0]
    assert table.get(owners[0]) == 10
    assert [id(ref()) for ref in table.refs()] == [id(owner) for owner in owners]


def test_what_is_taken_is_forgotten_and_its_owners_death_tells_nobody() -> None:
    told: list[KeyedRef] = []
    table: WeakTable[str] = WeakTable(on_death=told.append)
    owner = Owner()
    table.put(owner, "its own")
    assert table.take(owner) == "its own"
    assert table.take(owner) is None
    assert owner not in table
    del owner
    gc.collect()
    assert told == []


def test_the_death_of_a_reference_that_was_replaced_does_not_end_what_is_known_since() -> None:
    table: WeakTable[str] = WeakTable()
    owner = Owner()
    old = table.put(owner, "old")
    table.take(owner)
    table.put(owner, "new")
    table._forget(old)  # as where it is called late
    assert table.get(owner) == "new"


def test_the_table_can_be_looked_into_by_id_without_a_call() -> None:
    table: WeakTable[str] = WeakTable()
    by_id, owner = table.by_id, Owner()
    assert id(owner) not in by_id
    table.put(owner, "its own")
    assert by_id[id(owner)].value == "its own"
    assert table.ref(id(owner)) is by_id[id(owner)]


def test_the_code_that_dying_objects_run_is_named_for_the_compiler_to_stay_out_of() -> None:
    from sys import _getframe

    codes: list[object] = []
    table: WeakTable[None] = WeakTable(on_death=lambda _: codes.append(_getframe(1).f_code))
    owner = Owner()
    table.put(owner, None)
    del owner
    gc.collect()
    assert tuple(codes) == WeakTable.entries()
