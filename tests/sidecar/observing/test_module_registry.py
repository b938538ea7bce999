from __future__ import annotations

import gc
import time

import pytest
from torch import nn

from gpumodels.observing.module_registry import Changes, ModuleRegistry
from modules import Backbone, attached


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def registry(clock: Clock) -> ModuleRegistry:
    return ModuleRegistry(clock)


class Comparing(nn.Module):
    """To hash or compare it would run code of its own."""

    def __eq__(self, other: object) -> bool:
        raise AssertionError("foreign code ran")

    def __hash__(self) -> int:
        raise AssertionError("foreign code ran")


def test_modules_come_once_oldest_first_and_are_not_compared(registry: ModuleRegistry) -> None:
    modules = [Comparing() for _ in range(3)]
    for module in (modules[0], modules[1], modules[0]):
        registry.add_new(module)
    registry.add_all(modules)
    assert [id(ref()) for ref in registry.refs()] == [id(module) for module in modules]
    assert [ref.key for ref in registry.take_changes().added] == [id(module) for module in modules]
    assert len(registry) == registry.version == 3


def test_when_a_module_was_built_is_known_where_somebody_saw_it(registry: ModuleRegistry) -> None:
    seen, told, unseen = nn.Module(), nn.Module(), nn.Module()
    before = time.time_ns()
    registry.add_new(seen)
    registry.add(told, built_ns=5)
    registry.add(unseen)
    registry.add(seen)
    assert before <= registry.built_ns(id(seen)) <= time.time_ns()
    assert [registry.built_ns(id(module)) for module in (told, unseen)] == [5, 0]
    assert registry.built_ns(id(registry)) == 0


def test_changes_are_told_once_and_each_touched_module_once(registry: ModuleRegistry) -> None:
    one, other = nn.Module(), nn.Module()
    registry.add_all([one, other])
    registry.take_changes()
    for module in (other, one, other):
        registry.note_move(module)
    changes = registry.take_changes()
    assert (changes.added, changes.died, changes.touched) == ((), (), (id(other), id(one)))
    assert registry.take_changes() == Changes()


def test_a_module_that_went_is_told_of_by_the_reference_by_which_it_was_known(registry: ModuleRegistry) -> None:
    module = nn.Module()
    registry.add(module)
    (ref,) = registry.take_changes().added
    version = registry.version
    del module
    gc.collect()
    assert registry.version == version + 1
    assert registry.take_changes() == Changes(died=(ref,))
    assert (len(registry), registry.ref(ref.key)) == (0, None)


def test_what_is_moved_or_loaded_is_known_from_then_on(registry: ModuleRegistry) -> None:
    one, other = nn.Module(), nn.Module()
    registry.note_move(one)
    registry.note_load(other)
    changes = registry.take_changes()
    assert [ref.key for ref in changes.added] == list(changes.touched) == [id(one), id(other)]


def test_moves_alone_are_told_from_what_brings_new_values(registry: ModuleRegistry) -> None:
    one, other = nn.Module(), nn.Module()
    registry.add(one)
    registry.take_changes()
    assert not registry.only_moved()  # nothing happened at all
    registry.note_move(one)
    assert registry.only_moved()
    registry.note_load(one)
    assert not registry.only_moved()
    registry.take_changes()
    registry.note_move(one)
    assert registry.only_moved()
    registry.add(other)
    assert not registry.only_moved()


def test_the_version_stays_while_nothing_happens(registry: ModuleRegistry) -> None:
    module = nn.Module()
    registry.add(module)
    version = registry.version
    registry.add(module)
    registry.add_new(module)
    registry.take_changes()
    registry.only_moved()
    assert registry.version == version
    registry.request_scan()
    assert registry.version == version + 1
    assert registry.take_changes() == Changes()


def test_when_the_last_unknown_module_came_is_when_the_registry_last_grew(registry: ModuleRegistry, clock: Clock) -> None:
    assert registry.grew_at == float("-inf")
    first, second = nn.Module(), nn.Module()
    registry.add(first)
    assert registry.grew_at == 100.0
    clock.seconds = 101.0
    registry.add(first)
    registry.note_move(first)
    assert registry.grew_at == 100.0
    registry.add_new(second)
    assert registry.grew_at == 101.0


def test_the_registry_keeps_nothing_alive() -> None:
    with attached() as sidecar:
        model = Backbone()
        assert len(sidecar.registry) == len(list(model.modules()))
        version = sidecar.registry.version
        del model
        gc.collect()
        assert len(sidecar.registry) == 0
        assert sidecar.registry.version > version
