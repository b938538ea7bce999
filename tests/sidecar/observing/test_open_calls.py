from __future__ import annotations

import sys
import threading

import pytest

from gpumodels.observing.open_calls import OpenCalls


def test_what_was_noted_at_the_beginning_is_there_at_the_end() -> None:
    calls: OpenCalls[str] = OpenCalls()

    def call() -> str | None:
        calls.begin(sys._getframe(), "noted")
        return calls.end(sys._getframe())

    assert call() == "noted"
    assert len(calls) == 0


def test_calls_that_raised_are_told_from_those_that_still_run() -> None:
    calls: OpenCalls[str] = OpenCalls()
    running, end = threading.Event(), threading.Event()

    def long_call() -> None:
        calls.begin(sys._getframe(), "running")
        running.set()
        end.wait(10)
        calls.end(sys._getframe())

    def raising_call() -> None:
        calls.begin(sys._getframe(), "raised")
        raise ValueError

    thread = threading.Thread(target=long_call)
    thread.start()
    running.wait(10)
    with pytest.raises(ValueError):  # noqa: PT011
        raising_call()
    sys.exc_info()
    assert calls.take_raised() == ["raised"]
    assert calls.take_raised() == []
    end.set()
    thread.join()
    assert len(calls) == 0
