from __future__ import annotations

import pytest

from gpumodels_shared.liveness import Liveness
from gpumodels_shared.schema import Job
from gpumodels_tui.sources.feed import ProcessState
from gpumodels_tui.view.jobs import counted_ranks, imbalance, imbalance_in_words, job_of, ranked_jobs
from snapshots import GIB, a_device, a_model, a_process, a_process_state, a_snapshot
from views import a_rank


def test_ranks_of_one_job_are_together_in_their_order() -> None:
    rows = [a_rank(1, GIB), a_rank(0, 2 * GIB), a_rank(1, GIB, job="other"), a_rank(2, GIB, liveness=Liveness.DEAD)]
    first, second = ranked_jobs(row.process_state for row in rows)
    assert (first.id, first.launcher, first.world_size, first.name) == ("node1:29500", "torchrun", 4, "train.py")
    assert [(one.rank, one.process.pid) for one in first.ranks] == [(0, 100), (1, 101)]
    assert first.sizes == [2 * GIB, GIB]
    assert (second.id, len(second.ranks)) == ("other", 1)
    assert job_of([row.process_state for row in rows], "other 1") == second
    assert job_of([row.process_state for row in rows], "nobody") is None


@pytest.mark.parametrize("missing", ["rank", "job", "id"])
def test_what_has_no_rank_in_a_job_is_in_none(missing: str) -> None:
    job = None if missing == "job" else Job(None if missing == "id" else "1")
    process = a_process(rank=None if missing == "rank" else 0, job=job)
    assert ranked_jobs([a_process_state(a_snapshot(process=process)), a_process_state(None)]) == []


def test_the_same_id_in_two_containers_is_two_jobs() -> None:
    states = [
        a_process_state(a_snapshot(process=a_process(rank=rank, job=Job("localhost:29500", "torchrun", container_id=container))))
        for rank, container in ((0, "a"), (1, "b"))
    ]
    assert len(ranked_jobs(states)) == 2


def test_helpers_count_with_the_rank_that_they_inherited_and_host_memory_only_where_there_is_no_other() -> None:
    def of(rank: int, *sizes: tuple[str, int, int | None]) -> ProcessState:
        devices = [a_device(device, models, allocated_bytes=allocated) for device, models, allocated in sizes]
        return a_process_state(a_snapshot(a_model(), process=a_process(rank=rank, job=Job("1", "slurm")), devices=devices))

    (job,) = ranked_jobs(
        [
            of(0, ("cuda:0", GIB, 3 * GIB), ("cuda:1", GIB, None), ("cpu", 9 * GIB, None)),
            of(0, ("cuda:0", 0, GIB)),
            of(1, ("cuda:0", 0, 0), ("cpu", 2 * GIB, None)),
        ]
    )
    assert job.sizes == [5 * GIB, 2 * GIB]


@pytest.mark.parametrize(
    ("sizes", "share", "words"),
    [
        ([100, 114], 0.14, "+14 %"),
        ([114, 100, 100], 0.14, "+14 %"),
        ([1000, 1009], 0.009, "even"),
        ([GIB, 3 * GIB], 2.0, "+200 %"),
        ([0, GIB], None, "0 B to 1.0 GB"),
        ([0, 0], None, "even"),
        ([GIB], None, ""),
        ([], None, ""),
    ],
)
def test_the_imbalance_is_what_the_fullest_has_more_than_the_emptiest(sizes: list[int], share: float | None, words: str) -> None:
    assert imbalance(sizes) == (None if share is None else pytest.approx(share))
    assert imbalance_in_words(sizes) == words


def test_ranks_that_run_elsewhere_are_counted() -> None:
    assert [counted_ranks(4, size) for size in (None, 4, 8, 2)] == ["4 ranks", "4 ranks", "4 of 8 ranks", "4 ranks"]
