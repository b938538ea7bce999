"""Questions of viewers: answered, bounded, and ignored where they are none."""

from __future__ import annotations

import json
import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gpumodels.holders.answering import KEPT_SECONDS, LEAST_SECONDS, MOST_WAITING, Answering
from gpumodels.holders.other_memory import Accounted
from gpumodels.provenance.origin_tracker import OriginTracker
from gpumodels.support.failures import Failures
from gpumodels.tensors.tensor_storages import TensorReader
from gpumodels_shared.asks import OTHER, WHY, answer_name, ask_name, encode_ask
from gpumodels_shared.places import write_new

FILE = "4711-99-0123abcd.gpm"
GONE = encode_ask(WHY, "m2")
"""A question about a model that isn't there: it is answered without a search."""
OWNERS = {os.geteuid()}
HOLDER: list[nn.Module] = []


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """Models that these tests held would be seen by later tests."""
    yield
    HOLDER.clear()


class Asked:
    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700)
        self.directory = directory
        self.model = nn.Linear(2, 2)
        HOLDER[:] = [self.model]
        self.now = 0.0
        self.accounted: Accounted | None = None
        self.answering = Answering(
            lambda key: weakref.ref(self.model) if key == "m1" else None,
            lambda: self.accounted,
            lambda: None,
            Failures(),
            lambda: self.now,
        )
        self.count = 0

    def ask(self, content: bytes = encode_ask(WHY, "m1"), file: str = FILE) -> str:
        self.count += 1
        name = ask_name(file, f"{self.count:016x}")
        write_new(self.directory, name, content, OWNERS)
        return name

    def tick(self) -> None:
        self.now += 1.0
        self.answering.answer(self.directory / FILE)

    def answer(self, name: str) -> Any:
        return json.loads((self.directory / answer_name(name)).read_bytes())


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[Asked]:
    one = Asked(tmp_path / "own")
    yield one
    one.answering.close(one.directory / FILE)
    assert os.listdir(one.directory) == []


@pytest.mark.slow
def test_a_question_is_answered_and_removed(asked: Asked) -> None:
    name = asked.ask()
    asked.tick()
    answer = asked.answer(name)
    assert answer["state"] == "done"
    assert answer["expected_hold_seconds"] > 0
    found = [chain for chain in answer["found"]["chains"] if chain["text"].startswith("global HOLDER in ")]
    assert [(chain["file"], chain["variable"]) for chain in found] == [(__file__, "HOLDER")], answer
    assert os.stat(asked.directory / answer_name(name)).st_mode & 0o777 == 0o600
    assert os.listdir(asked.directory) == [answer_name(name)]


def test_a_model_that_is_gone_is_unknown(asked: Asked) -> None:
    name = asked.ask(GONE)
    asked.tick()
    assert asked.answer(name)["state"] == "unknown"


def test_before_torch_is_imported_nothing_is_known_of_memory(asked: Asked) -> None:
    name = asked.ask(encode_ask(OTHER))
    asked.tick()
    assert asked.answer(name) == {"schema": 1, "state": "unknown"}


@pytest.mark.slow
def test_what_else_is_in_memory_is_answered(asked: Asked) -> None:
    tracker = OriginTracker(torch)
    asked.accounted = Accounted(TensorReader(torch, tracker, Failures()), lambda _: False, ())
    name = asked.ask(encode_ask(OTHER))
    asked.tick()
    tracker.close()
    answer = asked.answer(name)
    assert answer["state"] == "done"
    assert answer["expected_hold_seconds"] > 0
    assert [device["device"] for device in answer["found"]["devices"]] == ["cpu"]
    assert os.listdir(asked.directory) == [answer_name(name)]


def test_an_answer_that_nobody_takes_is_removed(asked: Asked) -> None:
    asked.ask(GONE)
    asked.tick()
    asked.now += KEPT_SECONDS
    asked.tick()
    assert os.listdir(asked.directory) == []


def test_one_search_at_a_time_whoever_asks(asked: Asked) -> None:
    names = [asked.ask(GONE), asked.ask(GONE)]
    asked.tick()
    asked.now -= 1.0 - LEAST_SECONDS / 2
    asked.tick()
    assert [answer_name(name) in os.listdir(asked.directory) for name in names] == [True, False]
    asked.tick()
    assert [answer_name(name) in os.listdir(asked.directory) for name in names] == [True, True]


def test_of_a_flood_the_rest_is_ignored_and_counted(asked: Asked) -> None:
    for _ in range(MOST_WAITING + 5):
        asked.ask(GONE)
    asked.tick()
    assert asked.answering.ignored == 5
    for _ in range(MOST_WAITING):
        asked.tick()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[1]",
        b"\xff\x00",
        b"[" * 4000,
        b" " * 5000,
        b'{"schema": 2, "ask": "why", "model": "m1"}',
        b'{"schema": 1, "ask": "exec", "model": "m1"}',
        b'{"schema": 1, "ask": "why", "model": ["m1"]}',
        b'{"schema": 1, "ask": "why", "model": ""}',
        b'{"schema": 1, "ask": "other"}',
        b'{"schema": 1, "ask": "other", "model": "m1"}',
        b'{"schema": 1, "ask": "other", "model": 0}',
        b'{"schema": 1, "ask": ["other"], "model": ""}',
    ],
)
def test_what_is_no_question_is_ignored_and_counted(asked: Asked, content: bytes) -> None:
    asked.ask(content)
    asked.tick()
    assert asked.answering.ignored == 1
    assert os.listdir(asked.directory) == []


def test_traps_are_ignored_and_what_they_lead_to_stays(asked: Asked, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(encode_ask(WHY, "m1"))
    names = [ask_name(FILE, f"{number:016x}") for number in range(4)]
    (asked.directory / names[0]).symlink_to(victim)
    os.link(victim, asked.directory / names[1])
    os.mkfifo(asked.directory / names[2])
    (asked.directory / names[3]).write_bytes(encode_ask(WHY, "m1"))
    (asked.directory / names[3]).chmod(0o666)
    for _ in names:
        asked.tick()
    assert asked.answering.ignored == len(names)
    assert victim.read_bytes() == encode_ask(WHY, "m1")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of other users")
def test_only_the_owner_and_root_may_ask(asked: Asked) -> None:
    name = asked.ask()
    os.chown(asked.directory / name, 54_321, -1)
    asked.tick()
    assert asked.answering.ignored == 1


def test_questions_to_others_stay(asked: Asked) -> None:
    name = asked.ask(file="4712-99-0123abcd.gpm")
    (asked.directory / "ask-x.json").touch()
    asked.tick()
    assert sorted(os.listdir(asked.directory)) == sorted([name, "ask-x.json"])
    for left in os.listdir(asked.directory):
        (asked.directory / left).unlink()


def test_turned_off_it_reads_nothing(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUMODELS_ASK", "0")
    asked.answering = Answering(lambda _: None, lambda: None, lambda: None, Failures())
    name = asked.ask()
    asked.tick()
    assert os.listdir(asked.directory) == [name]
    (asked.directory / name).unlink()


def test_nothing_is_listed_while_nothing_changes(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    asked.tick()
    with monkeypatch.context() as patch:
        patch.setattr("gpumodels.holders.answering.os.listdir", lambda _: pytest.fail("listed"))
        asked.tick()
    assert asked.answering._failures.count == 0
