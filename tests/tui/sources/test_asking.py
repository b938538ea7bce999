"""A viewer asks a sidecar, on stand-ins that answer as they should, late, wrongly, or not at all."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gpumodels_shared.asks import answer_name, decode_ask, is_ask_for
from gpumodels_shared.places import write_new
from gpumodels_tui.sources.asking import Found, FoundOther, NoAnswerError, ask_other, ask_why

FILE = "4711-99-0123abcd.gpm"
ME = {os.geteuid()}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "own").mkdir(mode=0o700)
    return tmp_path / "own"


def asked(directory: Path, *answers: Any, told: Callable[[float], None] = lambda _: None) -> Found:
    """Ask a stand-in, which gives these answers one after the other, who holds a model."""
    with answering(directory, ("why", "m1"), *answers):
        return ask_why(directory / FILE, "m1", told, patience_seconds=1.0)


def asked_other(directory: Path, *answers: Any) -> FoundOther:
    """Ask it what else is in memory."""
    with answering(directory, ("other", ""), *answers):
        return ask_other(directory / FILE, patience_seconds=1.0)


@contextmanager
def answering(directory: Path, question: tuple[str, str], *answers: Any) -> Iterator[None]:
    """A sidecar's stand-in for one question."""

    def stand_in() -> None:
        until = time.monotonic() + 5
        while time.monotonic() < until:
            for name in os.listdir(directory):
                if is_ask_for(name, FILE):
                    assert decode_ask((directory / name).read_bytes()) == question
                    for answer in answers:
                        content = answer if isinstance(answer, bytes) else json.dumps({"schema": 1, **answer}).encode()
                        write_new(directory, answer_name(name), content, ME)
                        time.sleep(0.15)
                    return
            time.sleep(0.01)

    thread = threading.Thread(target=stand_in)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def test_the_answer_is_read_and_both_files_are_removed(directory: Path) -> None:
    told: list[float] = []
    searching = {"state": "searching", "expected_hold_seconds": 0.025}
    done = {"state": "done", "found": {"chains": [{"text": "global x", "steps": []}], "seconds": 0.5, "from_the_future": 1}}
    found = asked(directory, searching, done, told=told.append)
    assert ([chain.text for chain in found.chains], found.seconds, told) == (["global x"], 0.5, [0.025])
    time.sleep(0.2)
    assert os.listdir(directory) == []


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ((), r"no answer in 1 s: the process is stopped, busy in C code, or has GPUMODELS_ASK=0"),
        (({"state": "unknown"},), "isn't there any more"),
        ((b"{",), "can't be read"),
        (({"state": "done", "found": {"chains": 3}},), "can't be read"),
        (({"state": "done"},), "can't be read"),
        ((b" " * 300_000,), "longer than"),
    ],
)
def test_without_a_proper_answer_it_says_why(directory: Path, answers: tuple[Any, ...], reason: str) -> None:
    with pytest.raises(NoAnswerError, match=reason):
        asked(directory, *answers)


def test_who_may_not_ask_is_told_so(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(NoAnswerError, match="only its owner and root may ask"):
        ask_why(tmp_path / FILE, "m1")


def test_what_else_is_in_memory_is_read(directory: Path) -> None:
    device = {"device": "cuda:0", "tensors": 2, "allocator": {"returnable_bytes": 7}, "from_the_future": 1}
    found = asked_other(directory, {"state": "done", "found": {"devices": [device], "tensors": 5}})
    (one,) = found.devices
    assert one.allocator is not None
    assert (found.tensors, one.tensors, one.allocator.returnable_bytes, one.unseen) == (5, 2, 7, None)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"state": "unknown"}, "torch isn't imported there yet"),
        ({"state": "done", "found": {"devices": [{"device": 3}]}}, "can't be read"),
        ({"state": "done", "found": {"devices": [{"device": "cuda:0", "groups": [{}]}]}}, "can't be read"),
        ({"state": "done", "found": None}, "can't be read"),
    ],
)
def test_an_improper_answer_about_memory_is_refused(directory: Path, answer: Any, reason: str) -> None:
    with pytest.raises(NoAnswerError, match=reason):
        asked_other(directory, answer)
