"""Who holds what: whether a model can be put together anew without a look at the others."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from torch import nn

from gpumodels.models.assembling import FoundModel
from gpumodels.models.groups import CountedAlready, Group, Ownership
from modules import Backbone, Block, attached

Result = TypeVar("Result")


def result_of(steps: Generator[None, None, Result]) -> Result:
    """What it returns in the end."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            result: Result = stop.value
            return result


def finish(steps: Iterable[None]) -> None:
    for _ in steps:
        pass


@contextmanager
def groups_of(*models: nn.Module) -> Iterator[list[Group]]:
    """A group for each of these, in this order."""
    with attached() as sidecar:
        for model in models:
            for module in model.modules():
                sidecar.registry.add(module)
        found = {one.root: one for one in sidecar.scan()}
        yield [a_group(found[id(model)]) for model in models]


def a_group(found: FoundModel) -> Group:
    group = Group(found.core, ())
    group.models.append(found)
    group.members.append(set(found.members))
    return group


def two_that_share_a_block() -> tuple[nn.Module, nn.Module]:
    common = Block()
    return nn.ModuleDict({"common": common, "own": Block()}), nn.ModuleDict({"common": common, "own": Block(128)})


def test_groups_that_share_nothing_are_apart() -> None:
    with groups_of(Backbone(), Backbone()) as (first, second):
        claims = Ownership()
        assert result_of(claims.take(first.core, first))
        assert result_of(claims.take(second.core, second))
        assert result_of(claims.is_unshared(first))
        assert set(claims.storages) == first.storages() | second.storages()


def test_who_comes_second_to_a_storage_is_not_apart_and_then_neither_is_the_first() -> None:
    with groups_of(*two_that_share_a_block()) as (first, second):
        claims = Ownership()
        assert result_of(claims.take(first.core, first))
        assert not result_of(claims.take(second.core, second))
        assert not result_of(claims.is_unshared(first))
        assert not result_of(claims.is_unshared(second))


def test_all_roots_above_a_module_are_found_and_only_a_lone_one_is_the_only_one() -> None:
    pair = two_that_share_a_block()
    with groups_of(*pair) as (first, second):
        claims = Ownership()
        for group in (first, second):
            result_of(claims.take(group.core, group))
        common, own = id(pair[0].get_submodule("common")), id(pair[1].get_submodule("own"))
        assert result_of(claims.roots_with({common})) == {first.core, second.core}
        assert result_of(claims.roots_with({own})) == {second.core}
        assert result_of(claims.roots_with({id(claims)})) == set()
        assert claims.only_root_with(common) is None
        assert claims.only_root_with(own) == second.core


def test_what_a_dropped_group_held_is_nobodys() -> None:
    with groups_of(Backbone(), Backbone()) as (gone, stays):
        claims = Ownership()
        for group in (gone, stays):
            result_of(claims.take(group.core, group))
        finish(claims.drop(gone.core, gone))
        assert set(claims.storages) == stays.storages()
        assert result_of(claims.roots_with(gone.members[0])) == set()
        assert result_of(claims.take(gone.core, gone))


def test_storages_are_exchanged_by_who_alone_holds_them_and_for_what_nobody_holds() -> None:
    with groups_of(Backbone(1), Backbone(1)) as (first, second):
        claims = Ownership()
        for group in (first, second):
            result_of(claims.take(group.core, group))
        (former, *_), (others, *_) = sorted(first.storages()), sorted(second.storages())
        new = ("cuda:0", 12345)
        assert not claims.exchange([former], [others])
        assert claims.exchange([former], [new])
        assert set(claims.storages) == first.storages() - {former} | {new} | second.storages()


def test_a_group_is_outdated_when_a_module_of_its_own_changed_or_what_it_shares_is_taken_by_others() -> None:
    pair = two_that_share_a_block()
    with groups_of(*pair) as (first, second):
        alone, after_the_other = CountedAlready(), CountedAlready()
        finish(after_the_other.add(first.models[0]))
        assert not first.is_outdated(first.core, set(), alone)
        assert first.is_outdated(first.core, {id(pair[0].get_submodule("own.q"))}, alone)
        assert not first.is_outdated(first.core, {id(pair[1].get_submodule("own.q"))}, alone)
        # The second was put together with the block counted by the first: right after that one, and wrong without.
        assert not second.is_outdated(second.core, set(), after_the_other)
        assert second.is_outdated(second.core, set(), alone)
        assert first.is_outdated(first.core, set(), after_the_other)
        assert Group(first.core, ()).is_outdated(first.core, set(), alone), "nothing was put together yet"
