from __future__ import annotations

import pytest

from gpumodels_shared.schema import Job
from gpumodels_tui.view.job_facts import facts_of_job
from gpumodels_tui.view.jobs import job_of
from snapshots import GIB, a_process
from views import a_rank

ID = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("job", "rank", "told"),
    [
        (Job("node1:29500", "torchrun", 1, 4), 3, "torchrun node1:29500, rank 3 of 4, local rank 1"),
        (Job("4242.0", "slurm", slurm_job="4242", slurm_step="0", user="ann"), 0, "slurm 4242.0, rank 0, of ann"),
        (Job("n:1", "torchrun", slurm_job="7"), None, "torchrun n:1, Slurm job 7"),
        (Job("t/p", "kubernetes", namespace="t", pod="p", container_id=ID), None, "kubernetes t/p, container 0123456789ab"),
        (Job("n:1", None, pod="p"), 1, "n:1, rank 1, pod p"),
        (Job(ID, "container", container_id=ID), None, "container 0123456789ab"),
    ],
)
def test_the_job_is_told_in_one_line(job: Job, rank: int | None, told: str) -> None:
    (fact,) = facts_of_job(a_process(rank=rank, job=job), None)
    assert (fact.label, fact.value) == ("job", told)


def test_a_process_that_is_part_of_nothing_has_no_such_fact() -> None:
    assert facts_of_job(a_process(), None) == []


def test_the_other_ranks_are_told_with_what_they_hold() -> None:
    states = [a_rank(rank, (4 + rank % 2) * GIB, world_size=20).process_state for rank in range(20)]
    assert states[0].snapshot is not None
    _, ranks = facts_of_job(states[0].snapshot.process, job_of(states, states[0].key))
    assert ranks.label == "ranks"
    assert ranks.value.startswith("+25 % (0: 4.0 GB, 1: 5.0 GB, 2: 4.0 GB")
    assert ranks.value.endswith("15: 5.0 GB and 4 more)")
    assert len(facts_of_job(states[0].snapshot.process, job_of(states[:1], states[0].key))) == 1
