from __future__ import annotations

import asyncio
import gc
import inspect
import pickle
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator
from types import FrameType, FunctionType
from typing import Any

import pytest
import torch
from torch import nn

from gpumodels.observing.code_exchange import CodeExchange
from gpumodels.observing.code_monitoring import CodeMonitoring
from gpumodels.observing.mechanism import Mechanism, Observation
from gpumodels.support.failures import Failures

monitoring: Any = getattr(sys, "monitoring", None)
MECHANISMS = ["exchange", *(["monitoring"] if monitoring is not None else [])]


@pytest.fixture
def failures() -> Failures:
    return Failures()


@pytest.fixture(params=MECHANISMS)
def mechanism(request: pytest.FixtureRequest, failures: Failures) -> Iterator[Mechanism]:
    """Each of the mechanisms of observing, on whichever Python this is."""
    made: Mechanism | None = CodeExchange(torch, failures) if request.param == "exchange" else CodeMonitoring.begin(failures)
    assert made is not None
    yield made
    made.remove()


def adds(one: int, *, other: int = 2) -> int:
    """A function to observe, defined in this file so that its source can be read."""
    if one < 0:
        raise ValueError("negative")

    def inner() -> int:
        return one + other

    return inner()


def ends_without_a_result(one: list[int]) -> None:
    one.append(1)


async def waits(one: int) -> int:
    """A coroutine to observe."""
    await asyncio.sleep(0)
    if one < 0:
        raise ValueError("negative")

    async def inner() -> int:
        return one + 1

    return await inner()


class Base:
    def method(self, value: int) -> int:
        return value


class Derived(Base):
    def method(self, value: int) -> int:
        return super().method(value) * 2


def a_function(function: Callable[..., Any]) -> FunctionType:
    assert isinstance(function, FunctionType)
    return function


def observed(mechanism: Mechanism, function: Callable[..., Any]) -> list[Any]:
    """Records each call of the function from now on: its arguments at the start, its name and result at the end."""
    seen: list[Any] = []

    def started(frame: FrameType) -> None:
        seen.append(dict(frame.f_locals))

    def returned(frame: FrameType, result: Any) -> None:
        seen.append((frame.f_code.co_name, result))

    mechanism.observe(a_function(function), Observation("observing", started, returned))
    return seen


def test_arguments_and_result_are_seen_of_whoever_got_hold_of_the_function_before(mechanism: Mechanism) -> None:
    early = adds
    seen = observed(mechanism, adds)
    assert early(1, other=3) == 4
    assert seen == [{"one": 1, "other": 3}, ("adds", 4)]


def test_what_a_function_is_stays_the_same(mechanism: Mechanism) -> None:
    def described() -> list[object]:
        code = adds.__code__
        return [
            id(adds),
            inspect.signature(adds),
            inspect.getsource(adds),
            pickle.dumps(adds),
            (adds.__name__, adds.__qualname__, adds.__module__, adds.__doc__, adds.__defaults__, adds.__kwdefaults__),
            (code.co_filename, code.co_firstlineno, code.co_name, code.co_varnames, code.co_flags),
        ]

    before = described()
    observed(mechanism, adds)
    assert described() == before


def test_the_traceback_of_an_exception_is_the_same_to_the_letter(mechanism: Mechanism) -> None:
    def told() -> list[str]:
        said = []
        method: Any = Derived().method
        for call, argument in zip([adds, method, method], [-1, "xyz", None], strict=True):
            try:
                call(argument)
            except (ValueError, TypeError):
                said.append(traceback.format_exc())
        return said

    before = told()
    assert len(before) == 2
    observed(mechanism, adds)
    observed(mechanism, Derived.method)
    assert told() == before


def test_a_call_that_raises_has_a_start_and_no_end(mechanism: Mechanism) -> None:
    seen = observed(mechanism, adds)
    with pytest.raises(ValueError, match="negative"):
        adds(-1)
    assert seen == [{"one": -1, "other": 2}]


def test_a_function_that_ends_without_a_return_is_seen_to_end(mechanism: Mechanism) -> None:
    seen = observed(mechanism, ends_without_a_result)
    ends_without_a_result([])
    assert seen[-1] == ("ends_without_a_result", None)


def test_a_coroutine_is_seen_to_start_when_it_first_runs_and_to_return_when_it_is_over(mechanism: Mechanism) -> None:
    seen = observed(mechanism, waits)
    coroutine = waits(1)
    assert inspect.iscoroutinefunction(waits)
    assert seen == []
    assert coroutine.send(None) is None
    assert seen == [{"one": 1}]
    with pytest.raises(StopIteration) as over:
        coroutine.send(None)
    assert over.value.value == 2
    assert seen[1:] == [("waits", 2)]


def test_overlapping_calls_of_a_coroutine_have_frames_of_their_own(mechanism: Mechanism) -> None:
    frames: dict[int, int] = {}
    ended: list[int] = []

    def started(frame: FrameType) -> None:
        frames[id(frame)] = frame.f_locals["one"]

    def returned(frame: FrameType, _result: object) -> None:
        ended.append(frames[id(frame)])

    mechanism.observe(a_function(waits), Observation("observing", started, returned))

    async def both() -> tuple[int, int]:
        return await asyncio.gather(waits(1), waits(2))

    assert [*asyncio.run(both())] == [2, 3]
    assert ended == [1, 2]


def test_a_coroutine_that_raises_is_the_same_to_the_letter_and_leaves_nothing_behind(mechanism: Mechanism) -> None:
    class Held:
        """Something that the failing call holds."""

    async def fails(held: object) -> None:
        await waits(-1)

    def told() -> str:
        held = Held()
        ref = weakref.ref(held)
        coroutine = fails(held)
        coroutine.send(None)
        try:
            coroutine.send(None)
        except ValueError:
            said = traceback.format_exc()
        del held, coroutine
        assert ref() is None
        return said

    gc.disable()
    try:
        before = told()
        seen = observed(mechanism, waits)
        assert told() == before
    finally:
        gc.enable()
    assert seen == [{"one": -1}]


def test_a_method_that_calls_super_can_be_observed(mechanism: Mechanism) -> None:
    seen = observed(mechanism, Derived.method)
    assert Derived().method(4) == 8
    assert seen[-1] == ("method", 8)


def test_an_error_of_ours_is_counted_and_does_not_reach_the_caller(mechanism: Mechanism, failures: Failures) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("ours")

    mechanism.observe(adds, Observation("observing", fails, fails))  # type: ignore[arg-type]
    assert adds(1) == 3
    assert failures.count == 2


def test_nothing_is_left_when_it_ends(mechanism: Mechanism) -> None:
    code = adds.__code__
    seen = observed(mechanism, adds)
    mechanism.remove()
    assert adds(1) == 3
    assert (seen, adds.__code__) == ([], code)
    assert adds.__code__ is code
    if monitoring is not None:
        assert "gpumodels" not in {monitoring.get_tool(tool) for tool in range(6)}


def test_each_thread_is_seen(mechanism: Mechanism) -> None:
    seen = observed(mechanism, adds)
    threads = [threading.Thread(target=adds, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result for entry in seen if isinstance(entry, tuple) for result in entry[1:]) == list(range(2, 10))


@pytest.mark.parametrize("name", ["__init__", "load_state_dict", "to", "half", "__setstate__"])
def test_torchs_own_methods_can_be_observed_either_way(mechanism: Mechanism, name: str) -> None:
    function = vars(nn.Module)[name]
    signature, source = inspect.signature(function), inspect.getsource(function)
    observed(mechanism, function)
    model = nn.Linear(2, 2)
    model.load_state_dict(model.state_dict())
    assert model.half().weight.dtype is torch.float16
    assert (inspect.signature(function), inspect.getsource(function)) == (signature, source)
