"""What the tests of this room share."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator

import pytest

from watched_use import Watched


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bool], Watched]]:
    """Begins to watch, with or without the calls of modules."""
    compiler = sys.modules.get("torch._dynamo")
    if compiler is not None:
        compiler.reset()  # what other tests compiled could run any model
    gc.collect()
    started: list[Watched] = []

    def one(tracks_calls: bool) -> Watched:
        started.append(Watched(monkeypatch, tracks_calls))
        return started[-1]

    yield one
    for watched in started:
        watched.observer.detach()
