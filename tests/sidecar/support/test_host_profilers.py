"""Which profilers are noticed, and how the sidecar's thread leaves the trace of torch's."""

from __future__ import annotations

import cProfile
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch

from gpumodels.support.host_profilers import leave_torch_trace, profiler_is_running


def in_another_thread(asked: Callable[[], Any], meanwhile: Callable[[], None]) -> Any:
    """What is asked in a thread that was there before `meanwhile` ran."""
    answers: list[Any] = []
    go = threading.Event()

    def run() -> None:
        go.wait()
        answers.append(asked())

    thread = threading.Thread(target=run)
    thread.start()
    meanwhile()
    go.set()
    thread.join()
    return answers[0]


@pytest.mark.parametrize("with_stack", [False, True])
def test_torchs_profiler_is_noticed_while_it_runs(with_stack: bool) -> None:
    assert not profiler_is_running()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], with_stack=with_stack):
        assert profiler_is_running()
    assert not profiler_is_running()


def test_the_older_interface_of_torchs_profiler_is_noticed_too() -> None:
    with torch.autograd.profiler.profile():
        assert profiler_is_running()
    assert not profiler_is_running()


def test_a_function_for_the_profiles_of_all_threads_is_noticed_and_that_of_one_is_not() -> None:
    sys.setprofile(lambda *_: None)
    try:
        assert not profiler_is_running()
        threading.setprofile(lambda *_: None)
        assert profiler_is_running()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    assert not profiler_is_running()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="cProfile follows all threads from Python 3.12 on")
def test_cprofile_is_noticed_where_it_follows_all_threads() -> None:
    with cProfile.Profile():
        assert profiler_is_running()
    assert not profiler_is_running()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring is there from Python 3.12 on")
def test_a_tool_that_profiles_chosen_functions_is_no_profiler_of_the_process() -> None:
    monitoring: Any = vars(sys)["monitoring"]
    monitoring.use_tool_id(monitoring.PROFILER_ID, "lines")
    try:
        monitoring.set_local_events(monitoring.PROFILER_ID, in_another_thread.__code__, monitoring.events.LINE)
        assert not profiler_is_running()
    finally:
        monitoring.set_local_events(monitoring.PROFILER_ID, in_another_thread.__code__, 0)
        monitoring.free_tool_id(monitoring.PROFILER_ID)


def test_a_thread_leaves_the_trace_of_torchs_profiler_which_goes_on_without_it() -> None:
    def left() -> list[Any]:
        before = sys.getprofile()
        leave_torch_trace()
        return [before is not None, sys.getprofile()]

    profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], with_stack=True)
    assert in_another_thread(left, profiler.start) == [True, None]
    torch.ones(2).add(1)
    profiler.stop()
    assert any(event.key == "aten::add" for event in profiler.key_averages())


def test_a_profile_function_of_the_hosts_own_stays_in_all_threads() -> None:
    def profile(*_: object) -> None:
        pass

    def left() -> Any:
        leave_torch_trace()
        return sys.getprofile()

    threading.setprofile(profile)
    try:
        assert in_another_thread(left, lambda: None) is profile
    finally:
        threading.setprofile(None)
