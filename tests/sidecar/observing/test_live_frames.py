from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

from gpumodels.observing.live_frames import frames_of_threads, locals_of, named_locals_of


def in_thread(function: Callable[[], Any]) -> Any:
    """What it returns, called in a thread of its own while this one waits."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


def locals_seen(name: str) -> list[Any]:
    """The local variables of the function of this name, in another thread."""

    def read() -> list[Any]:
        frames = frames_of_threads(threading.get_ident())
        return [value for _, frame in frames if frame.f_code.co_name == name for value in locals_of(frame)]

    found: list[Any] = in_thread(read)
    return found


def test_the_local_variables_of_a_running_function_are_seen_and_not_kept() -> None:
    def serve() -> tuple[bool, bool, int]:
        model: Any = nn.Linear(2, 2)
        number = 3
        is_seen = any(value is model for value in locals_seen("serve"))
        known = weakref.ref(model)
        del model
        return is_seen, known() is None, number

    assert serve() == (True, True, 3)


def test_a_function_that_calls_a_models_eval_is_read_and_one_that_calls_the_builtin_is_not() -> None:
    def serves() -> list[dict[str, Any]]:
        model = nn.Linear(2, 2)
        model.eval()
        return named_seen("serves")

    def evaluates() -> list[dict[str, Any]]:
        model = eval("1")
        return [{}] if model != 1 else named_seen("evaluates")

    assert ["model" in names for names in serves()] == [True]
    assert ["model" in names for names in evaluates()] == [sys.version_info >= (3, 13)]


def named_seen(name: str) -> list[dict[str, Any]]:
    """The named local variables of the function of this name, in another thread."""

    def read() -> list[dict[str, Any]]:
        return [named_locals_of(frame) for _, frame in frames_of_threads(threading.get_ident()) if frame.f_code.co_name == name]

    found: list[dict[str, Any]] = in_thread(read)
    return found


def test_all_frames_of_a_thread_are_seen_but_none_of_the_asking_one() -> None:
    def asks() -> set[str]:
        return {frame.f_code.co_name for _, frame in frames_of_threads(threading.get_ident())}

    def outer() -> set[str]:
        names: set[str] = in_thread(asks)
        return names

    assert {"outer", "in_thread"} <= outer()
    assert "asks" not in outer()


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="`locals()` makes a dictionary of its own there")
def test_a_dictionary_of_locals_that_the_host_keeps_stays_as_it_is() -> None:
    def serve() -> tuple[dict[str, Any], list[Any]]:
        before = 1
        kept = locals()
        later = before + 1
        seen = locals_seen("serve")
        return dict(kept), [later, seen]

    kept, (later, _) = serve()
    assert (kept, later) == ({"before": 1}, 2)


def _locals_of_caller() -> dict[str, Any]:
    found: dict[str, Any] = sys._getframe(1).f_locals
    return found


def test_a_dictionary_of_locals_that_somebody_else_keeps_is_not_emptied() -> None:
    def serve() -> tuple[bool, dict[str, Any]]:
        model = "a model"
        kept = _locals_of_caller()
        is_seen = model in locals_seen("serve")
        return is_seen, dict(kept)

    is_seen, kept = serve()
    assert (is_seen, kept["model"]) == (True, "a model")


@pytest.mark.skipif(not (3, 11) <= sys.version_info < (3, 13), reason="only there `f_locals` is copied back")
def test_beside_a_debugger_nothing_is_read() -> None:
    def traced() -> list[Any]:
        value = object()
        found = locals_seen("traced")
        return [value, *found]

    threading.settrace(lambda *_: None)
    try:
        assert traced()[1:] == []
    finally:
        threading.settrace(None)
    assert len(traced()) > 1
