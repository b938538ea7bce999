"""A reader that is slow loses lines and is told how many; whoever puts them never waits."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from gpumodels_tui.streaming import line_queue
from gpumodels_tui.streaming.event_lines import lag_line
from gpumodels_tui.streaming.line_queue import LineQueue
from processes import wait_until


def numbered(number: int, size: int = 100) -> bytes:
    return (json.dumps({"seq": number, "padding": "x" * size}) + "\n").encode()


def test_lines_arrive_in_order() -> None:
    reader, writer = os.pipe()
    queue = LineQueue(writer, lag_line)
    for number in range(1, 51):
        queue.put(number, numbered(number))
    queue.close(5)
    os.close(writer)
    with open(reader, encoding="utf-8") as lines:
        assert [json.loads(line)["seq"] for line in lines] == list(range(1, 51))


def test_a_full_pipe_loses_the_oldest_lines_and_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_queue, "MOST_LINES", 20)
    reader, writer = os.pipe()
    queue = LineQueue(writer, lag_line)
    for number in range(1, 1001):
        queue.put(number, numbered(number, 1000))
    with open(reader, encoding="utf-8") as file:
        seen: list[dict[str, Any]] = []
        while not seen or seen[-1]["seq"] < 1000 or seen[-1].get("event") == "lag":
            seen.append(json.loads(file.readline()))
    os.close(writer)
    numbers = [line["seq"] for line in seen]
    assert numbers == sorted(numbers)
    dropped = sum(line["dropped"] for line in seen if line.get("event") == "lag")
    assert dropped > 0
    assert dropped + sum(line.get("event") != "lag" for line in seen) == 1000
    before = 0
    for line in seen:
        assert line["seq"] - before == line.get("dropped", 1)  # a gap is where a lag says so, and nowhere else
        before = line["seq"]


def test_a_reader_that_left_is_noticed_without_a_write_and_by_one() -> None:
    reader, writer = os.pipe()
    queue = LineQueue(writer, lag_line)
    assert not queue.has_no_reader()
    os.close(reader)
    assert queue.has_no_reader()
    queue.put(1, b"x\n")
    wait_until(queue.ended.is_set)
    assert isinstance(queue.failure, BrokenPipeError)
    os.close(writer)


def test_a_pipe_that_was_made_non_blocking_by_others_is_waited_for() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    queue = LineQueue(writer, lag_line)
    for number in range(1, 201):
        queue.put(number, numbered(number, 2000))
    with open(reader, encoding="utf-8") as file:
        assert [json.loads(file.readline())["seq"] for _ in range(200)] == list(range(1, 201))
    queue.close(5)
    os.close(writer)
