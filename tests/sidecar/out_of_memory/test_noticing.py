"""Errors are noticed where they end, and none is kept."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from gpumodels.observing.observers import Observers
from gpumodels.out_of_memory.noticing import MAX_NOTICED, MemoryErrors
from gpumodels.support.failures import Failures

OUT = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.50 GiB"


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> MemoryErrors:
    monkeypatch.delattr(sys, "last_exc", raising=False)
    monkeypatch.delattr(sys, "last_value", raising=False)
    return MemoryErrors(Failures())


@pytest.fixture
def watching(errors: MemoryErrors, monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryErrors]:
    """The same, told of errors that end threads."""
    if not hasattr(sys, "monitoring"):
        pytest.skip("code that all threads share can be observed from Python 3.12 on")
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    observers = Observers(torch, Failures())
    errors.observe(observers)
    yield errors
    observers.remove()


def fails(error: BaseException) -> None:
    raise error


def in_a_thread(error: BaseException) -> None:
    thread = threading.Thread(target=fails, args=(error,))
    thread.start()
    thread.join()


def requested(errors: MemoryErrors) -> list[int | None]:
    return [one.told.requested_bytes for one in errors.take()]


@pytest.mark.parametrize("kind", [torch.OutOfMemoryError, RuntimeError, MemoryError])
def test_an_error_that_ends_a_thread(watching: MemoryErrors, kind: type[Exception]) -> None:
    in_a_thread(kind(OUT))
    assert requested(watching) == [2 << 30]


def test_other_errors_are_nobodys(watching: MemoryErrors) -> None:
    for error in (ValueError(OUT), RuntimeError("shapes differ"), KeyboardInterrupt(), SystemExit(1), RuntimeError(3)):
        in_a_thread(error)
    assert not watching.has_any()


def test_the_hosts_own_hook_is_called_as_ever(watching: MemoryErrors, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    hook = told.append
    monkeypatch.setattr(threading, "excepthook", hook)
    in_a_thread(torch.OutOfMemoryError(OUT))
    assert threading.excepthook is hook
    assert [type(arguments.exc_value) for arguments in told] == [torch.OutOfMemoryError]
    assert requested(watching) == [2 << 30]


@pytest.mark.parametrize("name", ["last_exc", "last_value"])
def test_what_python_keeps_of_an_uncaught_error_is_noticed_once(
    errors: MemoryErrors, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(sys, name, torch.OutOfMemoryError(OUT), raising=False)
    assert errors.has_any()
    assert requested(errors) == [2 << 30]
    assert requested(errors) == []


def test_what_was_there_before_is_not_new(errors: MemoryErrors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "last_value", torch.OutOfMemoryError(OUT), raising=False)
    assert not MemoryErrors(Failures()).has_any()


def test_an_error_is_found_behind_those_that_it_caused(errors: MemoryErrors) -> None:
    try:
        try:
            raise torch.OutOfMemoryError(OUT)
        except torch.OutOfMemoryError as error:
            raise ValueError("the node failed") from error
    except ValueError as outer:
        errors.note(outer)
        errors.note(outer.__cause__)
    assert requested(errors) == [2 << 30]


def test_an_endless_chain_ends(errors: MemoryErrors) -> None:
    one, other = ValueError(), ValueError()
    one.__context__, other.__context__ = other, one
    errors.note(one)
    assert not errors.has_any()


def test_no_error_is_kept_and_none_of_its_code_runs(errors: MemoryErrors) -> None:
    class Hostile(RuntimeError):
        def __str__(self) -> str:
            raise AssertionError("ran")

        def __getattribute__(self, name: str) -> Any:
            raise AssertionError(name)

    error = Hostile(OUT)
    gone = weakref.ref(error)
    errors.note(error)
    del error
    gc.collect()
    assert gone() is None
    assert requested(errors) == [2 << 30]


def test_a_storm_is_bounded(errors: MemoryErrors) -> None:
    kept = [torch.OutOfMemoryError(OUT) for _ in range(10 * MAX_NOTICED)]
    for error in kept:
        errors.note(error)
    assert len(errors.take()) == MAX_NOTICED
