"""Moments before events: what is kept, and that it compares like the document of `--json`."""

from __future__ import annotations

import json
import os

import pytest

from gpumodels_shared.liveness import Liveness
from gpumodels_tui.catalogue.facts import CatalogueState
from gpumodels_tui.comparing.differences import difference
from gpumodels_tui.comparing.documents import document_in
from gpumodels_tui.json_output import document
from gpumodels_tui.moments import MOST_MOMENTS, Moments, UnknownMomentError, document_of
from gpumodels_tui.oneshot import Snapshots
from gpumodels_tui.sources.feed import FeedState
from snapshots import GIB, MIB, NOON_NS, a_feed, a_model, a_process, a_process_state, a_snapshot, some_hardware

SECOND = 10**9


def holding(*names: str) -> FeedState:
    return a_feed(a_snapshot(*(a_model(name, GIB) for name in names)))


def came(moments: Moments, at_ns: int, now: FeedState) -> list[tuple[str, str]]:
    """What came and went between the moment before this one and now."""
    after = document_of(now, some_hardware(), NOON_NS, os.uname().nodename)
    found = difference(moments.before(at_ns), after)
    return [(change.what, change.name) for process in found.processes for change in process.changes]


@pytest.mark.parametrize(
    "feed",
    [
        holding("a", "b"),
        a_feed(),
        a_feed(a_snapshot(a_model("moved", GIB, device="cuda:0", off_bytes=MIB), process=a_process(rank=3))),
        a_feed(a_process_state(None, liveness=Liveness.DEAD)),
        a_feed(a_process_state(a_snapshot(a_model("gone", GIB)), liveness=Liveness.EXITED)),
    ],
    ids=["models", "nothing", "a rank's", "unreadable", "exited"],
)
def test_it_says_what_the_document_says(feed: FeedState) -> None:
    whole = document(Snapshots(feed, some_hardware(), CatalogueState(), NOON_NS))
    whole["host"] = "host"
    assert document_of(feed, some_hardware(), NOON_NS, "host") == document_in(json.dumps(whole).encode())


def test_before_an_event_is_the_last_moment_that_was_kept_before_it() -> None:
    moments = Moments()
    with pytest.raises(UnknownMomentError, match="nothing was seen"):
        moments.before(NOON_NS)
    for seconds, names in ((0, "a"), (10, "ab"), (20, "abc")):
        moments.note(NOON_NS + seconds * SECOND, holding(*names), some_hardware())
    now = holding(*"abcd")
    assert came(moments, NOON_NS + 5 * SECOND, now) == [("came", "b"), ("came", "c"), ("came", "d")]
    assert came(moments, NOON_NS + 10 * SECOND + 1, now) == [("came", "c"), ("came", "d")]
    assert came(moments, NOON_NS + 10 * SECOND, now) == [("came", "b"), ("came", "c"), ("came", "d")]
    assert came(moments, NOON_NS + 900 * SECOND, now) == [("came", "d")]
    # Of what was before the first of them nothing is known.
    assert came(moments, NOON_NS - 3600 * SECOND, now) == [("came", "b"), ("came", "c"), ("came", "d")]


def test_events_in_quick_succession_have_one_moment_and_the_oldest_are_forgotten() -> None:
    moments = Moments()
    for number in range(100):
        moments.note(NOON_NS + number * SECOND // 10, holding(*map(str, range(number))), some_hardware())
    assert len(came(moments, NOON_NS + 4 * SECOND, holding(*map(str, range(100))))) == 100
    assert len(came(moments, NOON_NS + 9 * SECOND, holding(*map(str, range(100))))) == 50
    for number in range(2 * MOST_MOMENTS):
        moments.note(NOON_NS + (10 + number) * 10 * SECOND, holding(str(number)), some_hardware())
    assert moments.before(0) == document_of(
        holding(str(MOST_MOMENTS)), some_hardware(), NOON_NS + (10 + MOST_MOMENTS) * 10 * SECOND, moments.before(0).host
    )
