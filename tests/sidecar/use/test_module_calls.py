"""Which modules were called."""

from __future__ import annotations

import weakref
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from gpumodels.observing.observers import Observers
from gpumodels.support.failures import Failures
from gpumodels.use.module_calls import ModuleCalls


@pytest.fixture
def calls() -> Iterator[ModuleCalls]:
    failures = Failures()
    noted, observers = ModuleCalls(torch), Observers(torch, failures)
    noted.observe(observers)
    yield noted
    observers.remove()
    assert failures.count == 0


def test_every_module_that_is_called_is_noted_once(calls: ModuleCalls) -> None:
    inner, other = nn.Linear(2, 2), nn.Linear(2, 2)
    outer = nn.Sequential(inner)
    outer(torch.zeros(1, 2))
    outer(torch.zeros(1, 2))
    assert calls.are_observed
    assert calls.take() == {id(outer), id(inner)}
    assert calls.take() == set()
    other(torch.zeros(1, 2))
    assert calls.take() == {id(other)}


def test_no_hook_is_registered_and_the_module_dies_as_before(calls: ModuleCalls) -> None:
    assert not nn.modules.module._has_any_global_hook()  # type: ignore[no-untyped-call]
    module = nn.Linear(2, 2)
    module(torch.zeros(1, 2))
    died: list[int] = []
    ref = weakref.ref(module, lambda _: died.append(1))
    del module
    assert (ref(), died) == (None, [1])
