"""What is particular to `sys.monitoring`, which stands here as what it is told; it itself is there from Python 3.12 on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType, FrameType, FunctionType, SimpleNamespace
from typing import Any

import pytest

from gpumodels.observing import code_monitoring
from gpumodels.observing.code_monitoring import TOOL_IDS, TOOL_NAME, CodeMonitoring
from gpumodels.observing.mechanism import Observation
from gpumodels.support.failures import Failures

monitoring: Any = getattr(sys, "monitoring", None)


class Monitoring:
    """In the place of `sys.monitoring`: keeps what it is told, and has no events of its own."""

    events = SimpleNamespace(PY_START=1, PY_RETURN=4)

    def __init__(self) -> None:
        self.tools: dict[int, str] = {}
        self.callbacks: dict[tuple[int, int], Callable[..., object]] = {}
        self.local: dict[CodeType, int] = {}

    def get_tool(self, tool: int) -> str | None:
        return self.tools.get(tool)

    def use_tool_id(self, tool: int, name: str) -> None:
        if tool in self.tools:
            raise ValueError("in use")
        self.tools[tool] = name

    def free_tool_id(self, tool: int) -> None:
        del self.tools[tool]

    def register_callback(self, tool: int, event: int, function: Callable[..., object] | None) -> None:
        self.callbacks.pop((tool, event), None)
        if function is not None:
            self.callbacks[tool, event] = function

    def set_local_events(self, tool: int, code: CodeType, events: int) -> None:
        assert tool in self.tools
        self.local[code] = events


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Monitoring:
    one = Monitoring()
    monkeypatch.setattr(code_monitoring, "monitoring", one)
    return one


@pytest.fixture
def failures() -> Failures:
    return Failures()


def begun(failures: Failures) -> CodeMonitoring:
    one = CodeMonitoring.begin(failures)
    assert one is not None
    return one


def adds(one: int, other: int = 2) -> int:
    return one + other


ADDS: Any = adds
"""As a function of Python's, which its type doesn't say."""


def its_equal() -> FunctionType:
    """Another function with the same code, line for line."""
    scope: dict[str, FunctionType] = {}
    exec(compile("def same(one): return one", "<same>", "exec"), {}, scope)
    return scope["same"]


def test_ids_without_a_meaning_are_taken_first_and_others_tools_keep_theirs(stand_in: Monitoring, failures: Failures) -> None:
    taken = []
    for _ in TOOL_IDS:
        before = dict(stand_in.tools)
        begun(failures)
        assert before.items() <= stand_in.tools.items()
        taken += [tool for tool in stand_in.tools if tool not in before]
    assert tuple(taken) == TOOL_IDS
    assert set(TOOL_IDS) == set(range(6))
    callbacks = dict(stand_in.callbacks)
    assert CodeMonitoring.begin(failures) is None
    assert stand_in.callbacks == callbacks


def test_an_id_that_another_thread_takes_meanwhile_is_passed_over(
    stand_in: Monitoring, failures: Failures, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in.tools[TOOL_IDS[0]] = "quicker"
    monkeypatch.setattr(stand_in, "get_tool", lambda tool: None)
    begun(failures)
    assert stand_in.tools == {TOOL_IDS[0]: "quicker", TOOL_IDS[1]: TOOL_NAME}


def test_only_the_events_that_somebody_asked_for_are_set(stand_in: Monitoring, failures: Failures) -> None:
    one, nothing = begun(failures), lambda *_: None
    functions: list[Any] = [its_equal(), adds, begun]
    one.observe(functions[0], Observation("observing", nothing, None))
    one.observe(functions[1], Observation("observing", None, nothing))
    one.observe(functions[2], Observation("observing", nothing, nothing))
    assert [stand_in.local[function.__code__] for function in functions] == [1, 4, 5]


def test_what_observes_is_given_the_frame_and_the_result_of_the_code_that_it_asked_for(
    stand_in: Monitoring, failures: Failures
) -> None:
    one, observed, equal = begun(failures), its_equal(), its_equal()
    seen: list[Any] = []

    def returned(frame: FrameType, result: Any) -> None:
        seen.append((frame, result))

    one.observe(observed, Observation("observing", seen.append, returned))
    assert observed.__code__ == equal.__code__
    started, ended = stand_in.callbacks[TOOL_IDS[0], 1], stand_in.callbacks[TOOL_IDS[0], 4]
    for code in (equal.__code__, adds.__code__):
        started(code, 0)
        ended(code, 0, "result")
    assert seen == []
    started(observed.__code__, 0)
    ended(observed.__code__, 0, "result")
    assert seen == [sys._getframe(), (sys._getframe(), "result")]
    assert failures.count == 0


def test_an_error_of_ours_is_counted_and_no_event_of_pythons_fails(stand_in: Monitoring, failures: Failures) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("ours")

    begun(failures).observe(ADDS, Observation("observing", fails, fails))
    stand_in.callbacks[TOOL_IDS[0], 1](adds.__code__, 0)
    stand_in.callbacks[TOOL_IDS[0], 4](adds.__code__, 0, 3)
    assert failures.count == 2


def test_the_id_is_given_back_with_no_event_and_no_callback_left(stand_in: Monitoring, failures: Failures) -> None:
    one = begun(failures)
    one.observe(ADDS, Observation("observing", lambda _: None, None))
    started = stand_in.callbacks[TOOL_IDS[0], 1]
    one.remove()
    assert (stand_in.tools, stand_in.callbacks, stand_in.local) == ({}, {}, {adds.__code__: 0})
    started(adds.__code__, 0)  # as where it was under way in another thread
    one.remove()
    stand_in.tools[TOOL_IDS[0]] = "another tool"
    stand_in.local[adds.__code__] = 1
    one.remove()
    assert stand_in.tools == {TOOL_IDS[0]: "another tool"}
    assert stand_in.local == {adds.__code__: 1}
    assert failures.count == 0


@pytest.mark.skipif(monitoring is None, reason="sys.monitoring is there from Python 3.12 on")
def test_where_other_tools_have_all_ids_nothing_is_observed_and_none_is_disturbed(failures: Failures) -> None:
    free = [tool for tool in range(6) if monitoring.get_tool(tool) is None]
    for tool in free:
        monitoring.use_tool_id(tool, f"other {tool}")
    try:
        assert CodeMonitoring.begin(failures) is None
    finally:
        for tool in free:
            monitoring.free_tool_id(tool)
