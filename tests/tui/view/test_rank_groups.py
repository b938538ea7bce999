from __future__ import annotations

from collections.abc import Sequence

import pytest

from gpumodels_shared.liveness import Liveness
from gpumodels_tui.view.listing import SORTS, Entry, Order, entries
from gpumodels_tui.view.model_facts import Fact
from gpumodels_tui.view.rank_groups import RankGroup, facts_of_group, headline_of_group, rank_groups
from gpumodels_tui.view.rows import DeviceRow, ModelRow
from snapshots import GIB, MIB
from views import a_gpu, a_rank, a_row, an_unattached


def shown(listed: Sequence[Entry]) -> list[str]:
    ranks = ["" if entry.rank is None else f"rank {entry.rank} " for entry in listed]
    names = [entry.name + (" …" if entry.group else "") for entry in listed]
    return ["  " * entry.depth + rank + name for entry, rank, name in zip(listed, ranks, names, strict=True)]


def group_of(*rows: ModelRow, device: DeviceRow | None = None) -> RankGroup:
    (group,) = rank_groups((device or a_gpu(*rows), row) for row in rows)
    return group


def test_a_model_in_several_ranks_is_one_row_that_unfolds() -> None:
    gpu = a_gpu(a_row("other", 5 * GIB), *(a_rank(rank, (rank + 2) * GIB) for rank in (2, 0, 1)), unattached=[an_unattached()])
    folded = entries([gpu])
    assert shown(folded) == ["Llama …", "other", "python serve.py"]
    group = folded[0]
    assert (group.on_bytes, group.kind, group.layers, group.dtype, group.share) == (9 * GIB, "llm", 145, "bfloat16", 9 / 80)
    assert group.process == "train.py (3 of 4 ranks, +100 %)"
    assert (group.pid, group.process_key, group.off_bytes) == (100, "node1:29500 0", 0)
    unfolded = entries([gpu], unfolded={group.key})
    assert shown(unfolded) == ["Llama …", "  rank 0 Llama", "  rank 1 Llama", "  rank 2 Llama", "other", "python serve.py"]
    assert [entry.process for entry in unfolded[1:3]] == ["train.py (rank 0) 100", "train.py (rank 1) 101"]
    assert (folded[0].is_open, unfolded[0].is_open) == (False, True)


def test_ranks_on_several_devices_are_one_row_in_the_list_of_all() -> None:
    gpus = [a_gpu(a_rank(rank, GIB), index=rank) for rank in range(4)]
    (entry,) = entries(gpus)
    assert entry.group is not None
    assert (entry.group.summary, entry.group.devices, entry.share) == ("4 ranks, even", "0-3", 4 / 320)
    assert shown(entries(gpus[:1])) == ["Llama"]  # on its own device it is one model like others
    assert [one.device.label for one in entries(gpus, unfolded={entry.key})[1:]] == ["0", "1", "2", "3"]


def test_what_is_not_the_same_model_of_one_job_stays_apart() -> None:
    rows = [
        a_rank(0, GIB), a_rank(0, GIB, key="again"), a_rank(1, GIB, "Other"), a_rank(1, GIB, job="elsewhere"),
        a_rank(1, GIB, liveness=Liveness.DEAD, key="dead"), a_row("Llama", GIB, "llm"),
    ]  # fmt: skip
    assert rank_groups((a_gpu(*rows), row) for row in rows) == []
    assert len(entries([a_gpu(*rows)])) == 6


def test_adapters_of_ranks_are_a_group_below_that_of_their_bases() -> None:
    rows = [a_rank(rank, GIB) for rank in range(2)]
    rows += [a_rank(rank, MIB, "style", "lora", parent_key=f"Llama {rank}") for rank in range(2)]
    listed = entries([a_gpu(*rows)])
    assert shown(listed) == ["Llama …", "  style …"]
    assert shown(entries([a_gpu(*rows)], unfolded={listed[0].key, listed[1].key})) == [
        "Llama …", "  rank 0 Llama", "  rank 1 Llama", "  style …", "    rank 0 style", "    rank 1 style",
    ]  # fmt: skip
    alone = a_gpu(*rows[:3])  # only one rank has it so far
    assert shown(entries([alone])) == ["Llama …", "  style"]


@pytest.mark.parametrize("column", SORTS)
def test_groups_sort_by_every_column_with_their_ranks_below_in_order(column: str) -> None:
    gpu = a_gpu(*(a_rank(rank, (4 - rank) * GIB) for rank in range(3)), a_row("other", GIB), unattached=[an_unattached()])
    key = entries([gpu])[0].key
    for reverse in (False, True):
        listed = shown(entries([gpu], Order(column, reverse), unfolded={key}))
        at = listed.index("Llama …")
        assert listed[at + 1 : at + 4] == ["  rank 0 Llama", "  rank 1 Llama", "  rank 2 Llama"]


def test_words_are_looked_for_in_what_is_folded_away_too() -> None:
    gpu = a_gpu(a_rank(0, GIB), a_rank(1, GIB), a_row("other", GIB))
    assert shown(entries([gpu], words="101")) == ["Llama …"]
    assert shown(entries([gpu], words="llama")) == ["Llama …"]
    assert shown(entries([gpu], words="torchrun")) == []


def test_the_facts_tell_every_rank_and_how_unequal_they_are() -> None:
    group = group_of(a_rank(0, 4 * GIB), a_rank(1, 5 * GIB))
    assert headline_of_group(group) == "Llama (llm, 9.0 GB, 2 of 4 ranks)"
    assert facts_of_group(group) == [
        Fact("ranks", "2 of 4 ranks, 4.0 GB to 5.0 GB each, +25 %"),
        Fact("by rank", "0: 4.0 GB on 0; 1: 5.0 GB on 0"),
        Fact("job", "torchrun node1:29500"),
        Fact("process", "train.py"),
        Fact("layers", "145 in the first rank"),
    ]
    even = facts_of_group(group_of(*(a_rank(rank, GIB, world_size=64) for rank in range(64))))
    assert even[0] == Fact("ranks", "64 ranks, 1.0 GB each, even")
    assert even[1].value.endswith("; 19: 1.0 GB on 0; and 44 more")
