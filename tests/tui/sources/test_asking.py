"""A viewer asks a sidecar, on stand-ins that answer as they should, late, wrongly, or not at all."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpumodels_shared.asks import answer_name, decode_ask, is_ask_for
from gpumodels_shared.places import write_new
from gpumodels_tui.sources.asking import Found, NoAnswerError, ask_why

FILE = "4711-99-0123abcd.gpm"
ME = {os.geteuid()}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "own").mkdir(mode=0o700)
    return tmp_path / "own"


def asked(directory: Path, *answers: Any, told: Callable[[float], None] = lambda _: None) -> Found:
    """Ask a stand-in that gives these answers one after the other."""

    def stand_in() -> None:
        until = time.monotonic() + 5
        while time.monotonic() < until:
            for name in os.listdir(directory):
                if is_ask_for(name, FILE):
                    assert decode_ask((directory / name).read_bytes()) == ("why", "m1")
                    for answer in answers:
                        content = answer if isinstance(answer, bytes) else json.dumps({"schema": 1, **answer}).encode()
                        write_new(directory, answer_name(name), content, ME)
                        time.sleep(0.15)
                    return
            time.sleep(0.01)

    thread = threading.Thread(target=stand_in)
    thread.start()
    try:
        return ask_why(directory / FILE, "m1", told, patience_seconds=1.0)
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
