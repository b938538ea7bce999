from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from gpumodels.support.reference_cycles import only_cycles_hold
from gpumodels.support.weak_table import KeyedRef, WeakTable

LIMIT = 1000


@pytest.fixture(autouse=True)
def _no_collections() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


class KeepsItsMethod(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.run = self.forward


class KnowsItsParent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.layer.__dict__["parent"] = [self]


class HoldsHook(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_forward_hook(lambda *_: self)


CYCLES: list[Callable[[], nn.Module]] = [
    KeepsItsMethod,
    KnowsItsParent,
    HoldsHook,
    lambda: weight_norm(nn.Linear(2, 2)),
    lambda: spectral_norm(nn.Linear(2, 2)),
]


def ask(ref: KeyedRef, limit: int = LIMIT) -> bool | None:
    return only_cycles_hold(ref, limit, torch.Tensor)


@pytest.mark.parametrize("make", CYCLES)
def test_a_deleted_module_that_only_its_own_cycle_holds_is_garbage(make: Callable[[], nn.Module]) -> None:
    table: WeakTable[None] = WeakTable()
    held = [make()]
    ref = table.put(held[0], None)
    assert ask(ref) is False
    held.clear()
    assert ask(ref) is True
    gc.collect()
    assert ask(ref) is None


def holders(module: Any) -> list[Any]:
    return [
        module,
        module.layer,
        {"a": (module,)},
        module.forward,
        lambda: module,
        iter([module]),
        module.layer.__dict__["parent"],
    ]


@pytest.mark.parametrize("number", range(7))
def test_it_is_no_garbage_while_anything_else_leads_to_it(number: int) -> None:
    table: WeakTable[None] = WeakTable()
    module: Any = KnowsItsParent()
    ref = table.put(module, None)
    held = [holders(module)[number]]
    del module
    assert ask(ref) is False
    held.clear()
    assert ask(ref) is True


def test_what_it_leads_to_may_be_held_by_others() -> None:
    table: WeakTable[None] = WeakTable()
    settings = {"width": [2]}
    module: Any = KeepsItsMethod()
    module.settings = settings
    ref = table.put(module, None)
    del module
    assert ask(ref) is True
    assert settings


def test_a_module_that_leads_to_too_much_is_not_inspected() -> None:
    table: WeakTable[None] = WeakTable()
    module: Any = KeepsItsMethod()
    module.data = [[number] for number in range(100)]
    ref = table.put(module, None)
    del module
    assert ask(ref, limit=100) is None
    assert ask(ref, limit=200) is True


def test_asking_keeps_nothing() -> None:
    table: WeakTable[None] = WeakTable()
    held = [nn.Linear(2, 2)]
    ref = table.put(held[0], None)
    assert ask(ref) is False
    held.clear()
    assert ref() is None
