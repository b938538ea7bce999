"""Tests of the order of models in a list."""

from __future__ import annotations

import dataclasses
from itertools import permutations

from gpumodels_shared.liveness import Liveness
from gpumodels_shared.records import replace
from gpumodels_shared.schema import SMALL_MODELS_ID
from gpumodels_tui.view.rows import ModelRow, rank
from snapshots import GIB, MIB
from views import a_row


def dead(row: ModelRow) -> ModelRow:
    return replace(row, process_state=replace(row.process_state, liveness=Liveness.DEAD))


def small(row: ModelRow) -> ModelRow:
    return replace(row, model=dataclasses.replace(row.model, id=SMALL_MODELS_ID))


def test_the_order_is_the_same_whatever_it_was_before() -> None:
    ordered = [
        a_row("large", 2 * GIB),
        a_row("offloaded", GIB, off_bytes=GIB),
        a_row("a", GIB),
        a_row("b", GIB, key="1"),
        a_row("b", GIB, key="2"),
    ]
    for shuffled in permutations(ordered):
        assert sorted(shuffled, key=rank) == ordered


def test_small_ones_come_last_however_many_they_are_and_the_dead_behind_them() -> None:
    ordered = [a_row("tiny", MIB), small(a_row("90 small modules", 5 * MIB)), dead(a_row("was", 9 * GIB))]
    for shuffled in permutations(ordered):
        assert sorted(shuffled, key=rank) == ordered


def test_a_process_that_stalls_keeps_its_place() -> None:
    row = a_row("m", GIB)
    stalled = replace(row, process_state=replace(row.process_state, liveness=Liveness.STALLED))
    assert rank(stalled) == rank(row)
