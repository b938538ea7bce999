"""Facts about the job that a process is a part of, and about its other ranks. Safe to draw."""

from __future__ import annotations

from typing import Final

from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.schema import ProcessInfo
from gpumodels_shared.units import format_bytes
from gpumodels_tui.view.jobs import RankedJob, imbalance_in_words
from gpumodels_tui.view.model_facts import Fact

MOST_RANKS: Final = 16
"""So many ranks' bytes are told one by one."""
SHORT_ID: Final = 12
"""Characters of a container's id, as `docker ps` shows it."""


def facts_of_job(info: ProcessInfo, ranked: RankedJob | None) -> list[Fact]:
    """What the process is a part of, and what each rank of its job on this machine holds.

    Args:
        info: Of the process.
        ranked: All ranks of its job that are on this machine.
    """
    job = info.job
    if job is None:
        return []
    size = f" of {job.world_size}" if job.world_size is not None else ""
    told = [
        " ".join(filter(None, (job.launcher, job.id))) if job.launcher != "container" else "",
        f"rank {info.rank}{size}" if info.rank is not None else "",
        f"local rank {job.local_rank}" if job.local_rank is not None else "",
        f"Slurm job {job.slurm_job}" if job.slurm_job is not None and job.launcher != "slurm" else "",
        f"of {job.user}" if job.user is not None else "",
        f"pod {'/'.join(filter(None, (job.namespace, job.pod)))}" if job.pod is not None and job.launcher != "kubernetes" else "",
        f"container {job.container_id[:SHORT_ID]}" if job.container_id is not None else "",
    ]
    facts = [Fact("job", safe_text(", ".join(filter(None, told)), 400))]
    if ranked is not None and len(ranked.sizes) > 1:
        sizes = [f"{one.rank}: {format_bytes(one.allocated_bytes)}" for one in ranked.ranks[:MOST_RANKS]]
        more = f" and {len(ranked.ranks) - MOST_RANKS} more" if len(ranked.ranks) > MOST_RANKS else ""
        facts.append(Fact("ranks", f"{imbalance_in_words(ranked.sizes)} ({', '.join(sizes)}{more})"))
    return facts
