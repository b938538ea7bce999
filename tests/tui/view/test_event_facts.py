"""Tests of the facts about an event."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from gpumodels_shared.records import replace
from gpumodels_tui.view.event_facts import facts_of_event, facts_of_held_models
from gpumodels_tui.view.events import Event, EventKind
from gpumodels_tui.view.model_facts import Fact
from snapshots import GIB, MIB, NOON_NS

LOADED = Event(9, NOON_NS, EventKind.LOADED, "umt5-xxl-enc", "vllm 90210", "0", 6 * GIB, "m1")
RAN_OUT = Event(8, NOON_NS, EventKind.OUT_OF_MEMORY, "vllm 90210", "vllm 90210", "cuda:1", 70 * GIB, times=3)
EVIL = "\x1b]0;owned\x07\u202e"


@pytest.fixture(autouse=True)
def _universal_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Times of day are the same everywhere."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def told(event: Event) -> dict[str, str]:
    return {fact.label: fact.value for fact in facts_of_event(event)}


def test_when_what_to_whom_where_and_how_much() -> None:
    assert facts_of_event(LOADED) == [
        Fact("when", "2026-05-28 20:26:40"),
        Fact("what", "loaded"),
        Fact("model", "umt5-xxl-enc"),
        Fact("process", "vllm 90210"),
        Fact("device", "GPU 0"),
        Fact("bytes", "6.0 GB"),
    ]


def test_where_memory_ran_out_the_bytes_are_the_allocators_and_all_the_times_are_one_line() -> None:
    assert told(RAN_OUT) == {
        "when": "2026-05-28 20:26:40",
        "what": "out of memory, 3× within a minute",
        "process": "vllm 90210",
        "device": "cuda:1",
        "allocator": "70.0 GB",
    }


@pytest.mark.parametrize("kind", [EventKind.EXITED, EventKind.DIED])
def test_at_a_processs_end_the_bytes_are_what_its_models_held(kind: EventKind) -> None:
    ended = Event(7, NOON_NS, kind, "vllm 90210", "vllm 90210", size_bytes=GIB)
    assert told(ended) == {
        "when": "2026-05-28 20:26:40",
        "what": kind.value,
        "process": "vllm 90210",
        "models held": "1.0 GB",
    }


def test_what_is_not_known_is_no_line() -> None:
    assert set(told(Event(1, NOON_NS, EventKind.STARTED, "vllm 90210", "vllm 90210"))) == {"when", "what", "process"}


def test_what_was_there_is_a_line_a_model() -> None:
    assert facts_of_held_models([("wan", 20 * GIB), ("vae", 300 * MIB)]) == [Fact("20.0 GB", "wan"), Fact("300 MB", "vae")]


def test_nothing_hostile_reaches_what_is_drawn() -> None:
    evil = replace(LOADED, name=EVIL, process=EVIL, device=EVIL)
    facts = [*facts_of_event(evil), *facts_of_held_models([(EVIL, GIB)])]
    assert all(text.isprintable() for fact in facts for text in (fact.label, fact.value))
