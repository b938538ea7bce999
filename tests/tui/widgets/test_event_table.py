"""The list of what happened: a line says when, what, to whom, where and how much."""

from __future__ import annotations

import pytest

from gpumodels_shared.records import replace
from gpumodels_tui.theme import WARNING
from gpumodels_tui.view.events import Event, EventKind
from gpumodels_tui.widgets.event_table import SIGNS, EventTable
from screen_text import words
from snapshots import GIB, NOON_NS, WAN
from views import NOON_SECONDS, out_of_memory

pytestmark = pytest.mark.usefixtures("universal_time")

LOADED = Event(7, NOON_NS, EventKind.LOADED, WAN, "vllm 90210", "0", 27 * GIB, WAN)


def line_of(event: Event, now: float = NOON_SECONDS) -> dict[str, str]:
    """What its columns say, by their titles."""
    return {column.title: words(column.draw(event, 20)) for column in EventTable(clock=lambda: now).columns}


def test_a_line_says_when_what_to_whom_where_and_how_much() -> None:
    assert line_of(LOADED) == {
        "time": "20:26:40",
        "event": "+ loaded",
        "model": WAN,
        "bytes": "27.0 GB",
        "gpu": "0",
        "process": "vllm 90210",
    }


def test_of_another_day_the_day_is_shown() -> None:
    assert line_of(LOADED, NOON_SECONDS + 3 * 3600)["time"] == "20:26:40"
    assert line_of(LOADED, NOON_SECONDS + 4 * 3600)["time"] == "28 May"


def test_what_happened_often_within_a_minute_is_counted() -> None:
    assert line_of(replace(LOADED, kind=EventKind.MOVED_OFF, times=3))["event"] == "< offloaded 3×"


def test_where_memory_ran_out_the_models_are_named_instead_of_the_process() -> None:
    assert line_of(out_of_memory((WAN, 45 * GIB), ("umt5", GIB)))["model"] == f"with {WAN}, umt5"
    assert line_of(out_of_memory())["model"] == "ComfyUI/main.py 4711"
    died = Event(1, NOON_NS, EventKind.DIED, "train.py 12", "train.py 12", "", GIB, held=(("bert", GIB),))
    assert line_of(died)["model"] == "train.py 12 with bert"


def test_no_bytes_are_left_blank() -> None:
    assert line_of(replace(LOADED, size_bytes=0))["bytes"] == ""


def test_every_kind_has_a_sign_and_what_goes_wrong_is_a_warning() -> None:
    assert set(SIGNS) == set(EventKind)
    assert {kind for kind, (_, role) in SIGNS.items() if role == WARNING} == {
        EventKind.STALLED,
        EventKind.OUT_OF_MEMORY,
        EventKind.DIED,
    }


def test_events_are_told_apart_by_their_numbers() -> None:
    table = EventTable()
    assert table.key_of(LOADED) == table.key_of(replace(LOADED, times=2))
    assert table.key_of(LOADED) != table.key_of(replace(LOADED, number=8))
