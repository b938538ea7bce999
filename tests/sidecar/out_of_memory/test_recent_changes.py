"""What led to a failed allocation."""

from __future__ import annotations

from dataclasses import replace

from gpumodels.out_of_memory.recent_changes import KEPT_NS, RecentChanges
from snapshots import a_model

SECOND = 10**9


def test_loads_moves_and_unloads_of_the_last_minute() -> None:
    changes = RecentChanges()
    one = replace(a_model("one"), id="m1", bytes_by_device={"cpu": 10})
    other = replace(a_model("other"), id="m2", bytes_by_device={"cuda:0": 7})
    changes.see([one], 1 * SECOND)
    changes.see([replace(one, bytes_by_device={"cuda:0": 10}), other], 2 * SECOND)
    changes.see([other], 3 * SECOND)
    expected = [(1, "loaded", "one", 10), (2, "moved", "one", 10), (2, "loaded", "other", 7), (3, "unloaded", "one", 10)]
    assert [(at // SECOND, *rest) for at, *rest in changes.until(3 * SECOND)] == expected
    assert [at // SECOND for at, *_ in changes.until(2 * SECOND)] == [1, 2, 2]
    changes.see([other], 3 * SECOND + KEPT_NS)
    assert [at // SECOND for at, *_ in changes.until(3 * SECOND + KEPT_NS)] == [3]


def test_a_part_that_moves_and_pages_that_come_and_go_are_no_move() -> None:
    changes = RecentChanges()
    model = replace(a_model("one"), id="m1", bytes_by_device={"cpu": 10, "cuda:0": 3})
    paged = replace(a_model("paged"), id="m2", bytes_by_device={"cpu": 10}, dynamic_memory=True)
    changes.see([model, paged], SECOND)
    changes.see([replace(model, bytes_by_device={"cpu": 8, "cuda:0": 5}), replace(paged, bytes_by_device={"cuda:0": 10})], SECOND)
    assert [what for _, what, *_ in changes.until(SECOND)] == ["loaded", "loaded"]
