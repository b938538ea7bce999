"""What the host drops while our thread holds it is freed in the host's main thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from gpumodels.support import last_references
from gpumodels.support.last_references import give_back


class Owned:
    """Notes in which thread it was freed."""

    def __init__(self, freed_in: list[threading.Thread]) -> None:
        self.freed_in = freed_in

    def __del__(self) -> None:
        self.freed_in.append(threading.current_thread())


def in_other_thread(work: Callable[[], None]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        time.sleep(0.001)
    thread.join()


def test_the_last_reference_is_dropped_in_the_main_thread() -> None:
    freed: list[threading.Thread] = []
    in_other_thread(lambda: give_back([Owned(freed)]))
    until = time.monotonic() + 5
    while not freed and time.monotonic() < until:
        time.sleep(0.001)
    assert freed == [threading.main_thread()]


def test_what_the_host_still_holds_is_only_let_go_of() -> None:
    freed: list[threading.Thread] = []
    owned = Owned(freed)
    in_other_thread(partial(give_back, [owned]))
    assert (freed, last_references._waiting) == ([], [])
    del owned
    assert len(freed) == 1


def test_in_the_main_thread_it_is_dropped_at_once() -> None:
    freed: list[threading.Thread] = []
    held: list[Any] = [Owned(freed)]
    give_back(held)
    assert (freed, held) == ([threading.main_thread()], [])
    give_back(held)


def test_what_the_main_thread_enters_is_kept_from_dynamo() -> None:
    assert last_references.entries() == (last_references._drop.__code__,)


def test_where_the_main_thread_cannot_be_asked_it_is_dropped_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last_references, "_ask_main_thread", lambda: False)
    freed: list[threading.Thread] = []
    in_other_thread(lambda: give_back([Owned(freed)]))
    assert len(freed) == 1
    assert last_references._waiting == []
