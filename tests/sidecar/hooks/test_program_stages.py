"""Stages that a program names itself, however it runs them."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

import gpumodels
from gpumodels.hooks import program_stages
from gpumodels.hooks.program_stages import MAX_NAME, NO_NAME
from gpumodels.hooks.stage_events import StageEvents, StageStarted
from gpumodels.observing.module_registry import ModuleRegistry


@pytest.fixture
def events() -> Iterator[StageEvents]:
    with connected() as one:
        yield one


@contextmanager
def connected() -> Iterator[StageEvents]:
    one = StageEvents(ModuleRegistry())
    program_stages.connect(one)
    try:
        yield one
    finally:
        program_stages.disconnect(one)


def said(events: StageEvents) -> list[str]:
    """`load begins`, `load ends`, in their order."""
    names: dict[int, str] = {}
    found = []
    for event in events.take():
        if isinstance(event, StageStarted):
            names[event.number] = event.name
            found.append(f"{event.name} begins")
        else:
            found.append(f"{names[event.number]} ends")
    return found


def ids(events: StageEvents) -> dict[str, str]:
    """By name, of those that began."""
    return {event.name: event.id for event in events.take() if isinstance(event, StageStarted)}


def test_stages_within_stages_end_in_their_order_and_their_ids_say_what_they_are_in(events: StageEvents) -> None:
    with gpumodels.stage("generate"):
        with gpumodels.stage("encode"):
            pass
        with gpumodels.stage("denoise"), gpumodels.stage("step"):
            pass
    with gpumodels.stage("save"):
        pass
    found = ids(events)
    outer = found["generate"]
    assert outer.startswith("#")
    assert found == {
        "generate": outer,
        "encode": f"{outer}.1",
        "denoise": f"{outer}.2",
        "step": f"{outer}.2.1",
        "save": f"#{int(outer[1:]) + 1}",
    }


def test_an_exception_passes_through_unchanged_and_ends_its_stage(events: StageEvents) -> None:
    error = RuntimeError("mine")
    with pytest.raises(RuntimeError) as raised, gpumodels.stage("denoise"):
        raise error
    assert raised.value is error
    assert (error.__context__, error.__cause__) == (None, None)
    assert said(events) == ["denoise begins", "denoise ends"]


def test_stages_of_other_threads_are_in_none_of_ours(events: StageEvents) -> None:
    shared = gpumodels.stage("shared")
    entered, leave = threading.Barrier(3), threading.Event()

    def work() -> None:
        with shared:
            entered.wait(5)
            leave.wait(5)

    threads = [threading.Thread(target=work) for _ in range(2)]
    with gpumodels.stage("main"):
        for thread in threads:
            thread.start()
        entered.wait(5)
        assert len(events.running_now()) == 3
        leave.set()
        for thread in threads:
            thread.join(5)
    assert events.running_now() == set()
    assert [event.id.count(".") for event in events.take() if isinstance(event, StageStarted)] == [0, 0, 0]


def test_tasks_that_take_turns_in_one_thread_have_stages_of_their_own(events: StageEvents) -> None:
    async def one(name: str) -> None:
        async with gpumodels.stage(name):
            await asyncio.sleep(0)
            with gpumodels.stage(f"{name} inside"):
                await asyncio.sleep(0)

    async def both() -> None:
        await asyncio.gather(one("a"), one("b"))

    asyncio.run(both())
    found = ids(events)
    assert found["a inside"] == found["a"] + ".1"
    assert found["b inside"] == found["b"] + ".1"
    assert "." not in found["a"] + found["b"]


def test_as_a_decorator_each_call_is_a_stage_to_its_end(events: StageEvents) -> None:
    @gpumodels.stage("plain")
    def plain(value: int, *, more: int = 1) -> int:
        """Words."""
        return value + more

    @gpumodels.stage("coroutine")
    async def coroutine() -> str:
        await asyncio.sleep(0)
        assert len(events.running_now()) == 1
        return "done"

    @gpumodels.stage("generator")
    def generator() -> Generator[int, str, str]:
        assert (yield 1) == "sent"
        return "returned"

    @gpumodels.stage
    def bare() -> None:
        pass

    assert (plain(1, more=2), plain.__doc__, [*inspect.signature(plain).parameters]) == (3, "Words.", ["value", "more"])
    assert inspect.iscoroutinefunction(coroutine)
    assert asyncio.run(coroutine()) == "done"
    made = generator()
    assert next(made) == 1
    assert len(events.running_now()) == 1
    with pytest.raises(StopIteration, match="returned"):
        made.send("sent")
    bare()
    names = ("plain", "coroutine", "generator", bare.__qualname__)
    assert said(events) == [f"{name} {what}" for name in names for what in ("begins", "ends")]


def test_an_asynchronous_generator_takes_what_is_sent_and_thrown_into_it(events: StageEvents) -> None:
    closed: list[str] = []

    @gpumodels.stage("stream")
    async def stream() -> AsyncIterator[Any]:
        try:
            got = yield 1
            try:
                yield got
            except KeyError:
                yield "caught"
            yield "never taken"
        finally:
            closed.append("closed")

    async def use() -> None:
        made: Any = stream()
        assert await made.asend(None) == 1
        assert await made.asend("sent") == "sent"
        assert await made.athrow(KeyError()) == "caught"
        await made.aclose()

    asyncio.run(use())
    assert closed == ["closed"]
    assert said(events) == ["stream begins", "stream ends"]


@pytest.mark.parametrize("error", [RuntimeError("mine"), KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_whatever_is_raised_in_a_decorated_function_it_is_the_same_and_the_stage_ends(
    events: StageEvents, error: BaseException
) -> None:
    @gpumodels.stage("plain")
    def plain() -> None:
        raise error

    @gpumodels.stage("generator")
    def generator() -> Generator[int, None, None]:
        yield 1
        raise error

    @gpumodels.stage("stream")
    async def stream() -> AsyncIterator[int]:
        yield 1
        raise error

    async def use() -> None:
        made = stream()
        await anext(made)
        await anext(made)

    made = generator()
    next(made)
    raised = []
    for call in (plain, lambda: next(made), lambda: use().send(None)):
        try:
            call()
        except BaseException as caught:  # noqa: BLE001
            raised.append(caught)
    assert [one is error for one in raised] == [True] * 3
    assert sorted(said(events)) == sorted(
        f"{name} {what}" for name in ("plain", "generator", "stream") for what in ("begins", "ends")
    )
    assert events.running_now() == set()


def test_generators_that_take_turns_or_are_given_up_end_their_own_stages(events: StageEvents) -> None:
    @gpumodels.stage("count")
    def count() -> Generator[int, None, None]:
        yield 1
        yield 2

    first, second, given_up = count(), count(), count()
    for made in (first, second, given_up):
        next(made)
    assert len(events.running_now()) == 3
    assert list(first) == [2]
    given_up.close()
    assert len(events.running_now()) == 1
    with gpumodels.stage("meanwhile"):
        assert list(second) == [2]
    del given_up
    assert events.running_now() == set()
    with gpumodels.stage("after"):
        pass
    (after,) = (event for event in events.take() if isinstance(event, StageStarted) and event.name == "after")
    assert "." not in after.id, "it is in none of those that are over"


def test_a_stage_that_is_entered_within_itself_ends_as_often(events: StageEvents) -> None:
    stage = gpumodels.stage("step")
    with stage, stage:
        assert len(events.running_now()) == 2
    assert events.running_now() == set()


def test_a_stage_that_runs_when_the_sidecar_starts_is_known_since_it_began() -> None:
    with gpumodels.stage("load"):
        with connected() as events, gpumodels.stage("inside"):
            started = [event for event in events.take() if isinstance(event, StageStarted)]
            assert [event.name for event in started] == ["load", "inside"]
            assert started[1].id == f"{started[0].id}.1"
            assert started[0].moment.at_ns <= started[1].moment.at_ns
        with connected() as another:
            assert said(another) == ["load begins"]
    with connected() as later:
        assert said(later) == [], "it is over"


def test_what_a_stage_began_under_another_sidecar_is_ended_under_no_other() -> None:
    with connected() as first:
        stage = gpumodels.stage("long")
        stage.__enter__()
        with gpumodels.stage("short"):
            pass
    with connected() as second:
        stage.__exit__(None, None, None)
        assert said(second) == ["long begins", "long ends"]
    assert len(first.running_now()) == 1


def test_a_node_of_comfyui_is_what_stages_in_its_thread_are_in(events: StageEvents) -> None:
    events.nodes_by_thread[threading.get_ident()] = 1, "12"
    with gpumodels.stage("denoise"):
        pass
    assert ids(events)["denoise"].startswith("12#")


@pytest.mark.parametrize(
    ("name", "shown"), [("", NO_NAME), (3, "3"), (None, NO_NAME), (object(), NO_NAME), ("x" * 999, "x" * MAX_NAME)]
)
def test_whatever_is_given_as_a_name_nothing_raises(events: StageEvents, name: Any, shown: str) -> None:
    with gpumodels.stage(name):
        pass
    assert said(events) == [f"{shown} begins", f"{shown} ends"]


def test_an_end_without_a_beginning_is_nothing(events: StageEvents) -> None:
    gpumodels.stage("never entered").__exit__(None, None, None)
    assert said(events) == []


@pytest.mark.slow
def test_a_compiled_function_has_no_graph_break_for_it(events: StageEvents) -> None:
    def within(value: torch.Tensor) -> torch.Tensor:
        with gpumodels.stage("within"):
            return value * 2 + 1

    decorated = gpumodels.stage("decorated")(within)
    for function in (within, decorated):
        compiled = torch.compile(function, backend="eager", fullgraph=True)
        assert compiled(torch.ones(2)).tolist() == [3, 3]
    assert said(events) == []
