"""torch's registration hooks, where construction can't be observed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules import module as registering

from gpumodels.hooks.registration_hooks import RegistrationHooks
from gpumodels.observing.module_registry import ModuleRegistry
from gpumodels.support.failures import Failures


@pytest.fixture
def failures() -> Failures:
    return Failures()


@pytest.fixture
def registry() -> ModuleRegistry:
    return ModuleRegistry()


@pytest.fixture
def hooks(registry: ModuleRegistry, failures: Failures) -> Iterator[RegistrationHooks]:
    one = RegistrationHooks(torch, registry, failures)
    yield one
    one.remove()
    assert failures.count == 0


def tables() -> list[list[Any]]:
    """torch's own, of all global registration hooks."""
    names = ("module", "parameter", "buffer")
    return [[*getattr(registering, f"_global_{name}_registration_hooks").values()] for name in names]


def known(registry: ModuleRegistry) -> set[int]:
    return {ref.key for ref in registry.refs()}


def test_who_registers_a_module_or_a_parameter_is_known_and_the_module_too(
    hooks: RegistrationHooks, registry: ModuleRegistry
) -> None:
    before, child, parent, linear = nn.Linear(4, 4), nn.Module(), nn.Module(), nn.Module()
    hooks.install()
    assert len(registry) == 0
    parent.child = child
    linear.weight = nn.Parameter(torch.zeros(4))
    assert known(registry) == {id(parent), id(child), id(linear)}
    parent.child = None  # type: ignore[assignment]
    parent.register_module("nobody", None)
    parent.register_parameter("none", None)
    assert known(registry) == {id(parent), id(child), id(linear)}
    before.weight = nn.Parameter(torch.zeros(4))
    assert id(before) in known(registry)


def test_a_known_module_that_registers_something_new_is_touched(hooks: RegistrationHooks, registry: ModuleRegistry) -> None:
    hooks.install()
    model = nn.Linear(4, 4)
    registry.take_changes()
    model.weight = nn.Parameter(torch.zeros(2, 2))
    changes = registry.take_changes()
    assert (changes.added, changes.touched) == ((), (id(model),))


def test_nothing_is_noted_while_torch_compiles(
    hooks: RegistrationHooks, registry: ModuleRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiles = True
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiles)
    hooks.install()
    first = nn.Sequential(nn.Linear(4, 4))
    assert len(registry) == 0
    compiles = False
    second = nn.Sequential(nn.Linear(4, 4))
    assert known(registry) == {id(second), id(second[0])}
    assert first is not second


def test_an_error_of_ours_is_counted_and_the_host_registers(
    registry: ModuleRegistry, failures: Failures, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: object) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr(registry, "add_new", fails)
    hooks = RegistrationHooks(torch, registry, failures)
    hooks.install()
    try:
        model = nn.Sequential(nn.Linear(4, 4, bias=False))
    finally:
        hooks.remove()
    assert len([*model.parameters()]) == 1
    assert failures.count == 2


def test_when_it_ends_torch_has_the_hooks_of_others_and_no_other(hooks: RegistrationHooks, registry: ModuleRegistry) -> None:
    def theirs(*_: object) -> None:
        """Another tool's."""

    handle: Any = registering.register_module_module_registration_hook(theirs)
    try:
        hooks.install()
        assert [len(table) for table in tables()] == [2, 1, 0]
        hooks.remove()
        hooks.remove()
        assert tables() == [[theirs], [], []]
        model = nn.Sequential(nn.Linear(4, 4))
        assert len(registry) == 0
        assert model is not None
    finally:
        handle.remove()
