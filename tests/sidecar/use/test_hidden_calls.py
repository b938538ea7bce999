"""What runs modules without calling them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from gpumodels.observing.observers import Observers
from gpumodels.support.failures import Failures
from gpumodels.use.hidden_calls import HiddenCalls


@pytest.fixture
def hidden() -> Iterator[HiddenCalls]:
    import torch._dynamo.eval_frame as compiler

    torch._dynamo.reset()
    failures = Failures()
    one, observers = HiddenCalls(torch), Observers(torch, failures)
    one.observe(observers)
    for observe in one.awaited(observers).values():
        observe(compiler)
    yield one
    observers.remove()
    assert failures.count == 0


def test_a_compiled_module_is_called_as_before(hidden: HiddenCalls) -> None:
    torch.compile(nn.Linear(2, 2), backend="eager")
    nn.Linear(2, 2).compile(backend="eager")
    assert hidden.may_run_modules
    assert not hidden.may_run_functions


def test_a_compiled_function_may_run_any_module(hidden: HiddenCalls) -> None:
    assert not hidden.may_run_modules
    torch.compile(lambda x: x, backend="eager")
    assert hidden.may_run_functions


def test_a_compiled_method_may_run_any_module(hidden: HiddenCalls) -> None:
    model = nn.Linear(2, 2)
    torch.compile(model.forward, backend="eager")
    assert hidden.may_run_functions


def test_a_script_runs_with_the_weights_of_its_module(hidden: HiddenCalls) -> None:
    hidden.add_all([])
    before = hidden.may_run_functions
    with pytest.warns(DeprecationWarning, match="jit.trace"):
        script = torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2))  # type: ignore[no-untyped-call]
    assert (before, hidden.may_run_functions) == (False, True)
    assert type(script) in hidden.types()


def test_a_script_that_was_made_before_is_found(hidden: HiddenCalls) -> None:
    hidden.add_all([object()])
    assert hidden.may_run_functions


def test_a_replica_is_called_in_place_of_its_module(hidden: HiddenCalls) -> None:
    before = hidden.may_run_modules
    nn.Linear(2, 2)._replicate_for_data_parallel()  # type: ignore[no-untyped-call]
    assert (before, hidden.may_run_modules, hidden.may_run_functions) == (False, True, False)
