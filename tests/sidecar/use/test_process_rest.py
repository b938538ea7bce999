"""Whether the process rests, by its processor time."""

from __future__ import annotations

import multiprocessing.process

import pytest

from gpumodels.use.process_rest import REST_NS, ProcessRest


def after(*spent: int) -> ProcessRest:
    """At ticks 1, 2, …: the process spent so many nanoseconds before each."""
    total = 0
    rest = ProcessRest(lambda: total)
    for tick, nanoseconds in enumerate(spent, 1):
        total += nanoseconds
        rest.update(tick)
    return rest


def test_a_process_that_spends_nothing_rests_from_the_tick_at_which_that_is_certain() -> None:
    assert after(10**9, 0).since_ns is None
    assert after(10**9, 0, 0, 0, 100).since_ns == 3


def test_one_that_computes_rests_no_more() -> None:
    assert after(10**9, 0, 0, 0, REST_NS).since_ns is None
    assert after(10**9, 0, 0, REST_NS, 0, 0).since_ns == 6


def test_a_call_that_lies_across_a_tick_is_noticed() -> None:
    assert after(10**9, 0, 0, REST_NS // 2, REST_NS // 2).since_ns is None


def test_children_that_may_share_its_tensors_are_no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing.process, "_children", {object()})
    assert after(10**9, 0, 0, 0).since_ns is None
