"""Which processes are ranks of one job, what each of them holds, and how unequal that is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from gpumodels_shared.records import Record
from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.units import format_bytes
from gpumodels_tui.sources.feed import ProcessState
from gpumodels_tui.view.device_names import holds_memory

EVEN_WORD: Final = "even"
EVEN: Final = 0.01
"""Ranks that differ by less than this share are said to be even: their allocators round differently."""


class Rank(Record):
    """One process of a job."""

    rank: int
    process: ProcessState
    allocated_bytes: int
    """On its accelerators, else in host memory: by its allocators' counters where there are any, else by its models."""


class RankedJob(Record):
    """The processes on this machine that are ranks of one job, in order."""

    key: str
    id: str
    launcher: str | None
    world_size: int | None
    ranks: tuple[Rank, ...]

    @property
    def name(self) -> str:
        """What the processes are called, without numbers; safe to draw."""
        snapshot = self.ranks[0].process.snapshot
        return safe_text(snapshot.process.label, 200) if snapshot is not None else "process"

    @property
    def sizes(self) -> list[int]:
        """Bytes by rank. Several processes may have the same rank, as a helper inherits its parent's environment."""
        sums: dict[int, int] = {}
        for one in self.ranks:
            sums[one.rank] = sums.get(one.rank, 0) + one.allocated_bytes
        return list(sums.values())


def job_key(process: ProcessState) -> str | None:
    """The same for all processes of one job; None for one that has no rank in a job, or no memory any more."""
    if process.snapshot is None or not holds_memory(process):
        return None
    info = process.snapshot.process
    if info.job is None or info.job.id is None or info.rank is None:
        return None
    return f"job:{info.uid}:{info.job.container_id or ''}:{info.job.id}"


def ranked_jobs(processes: Iterable[ProcessState]) -> list[RankedJob]:
    """The jobs of which at least one rank is among the processes."""
    found: dict[str, list[Rank]] = {}
    for process in processes:
        key = job_key(process)
        if key is not None and process.snapshot is not None and process.snapshot.process.rank is not None:
            found.setdefault(key, []).append(Rank(process.snapshot.process.rank, process, _allocated(process)))
    return [_job(key, sorted(ranks, key=lambda one: (one.rank, one.process.pid))) for key, ranks in sorted(found.items())]


def job_of(processes: Iterable[ProcessState], key: str) -> RankedJob | None:
    """The job that the process of this key is a rank of, if it is one."""
    for job in ranked_jobs(processes):
        if any(one.process.key == key for one in job.ranks):
            return job
    return None


def imbalance(sizes: Sequence[int]) -> float | None:
    """By which share of the smallest the largest exceeds it; None for fewer than two, or if the smallest is 0."""
    return max(sizes) / min(sizes) - 1 if len(sizes) > 1 and min(sizes) > 0 else None


def imbalance_in_words(sizes: Sequence[int]) -> str:
    """`even`, `+14 %`, `0 B to 2.1 GB`; empty for fewer than two."""
    if len(sizes) < 2:
        return ""
    share = imbalance(sizes)
    if share is None:
        return EVEN_WORD if max(sizes) == 0 else f"{format_bytes(min(sizes))} to {format_bytes(max(sizes))}"
    return EVEN_WORD if share < EVEN else f"+{share:.0%}".replace("%", " %")


def counted_ranks(count: int, world_size: int | None) -> str:
    """`4 ranks`, `4 of 8 ranks` where the others run elsewhere."""
    return f"{count} of {world_size} ranks" if world_size is not None and world_size > count else f"{count} ranks"


def _job(key: str, ranks: Sequence[Rank]) -> RankedJob:
    snapshot = ranks[0].process.snapshot
    assert snapshot is not None
    job = snapshot.process.job
    assert job is not None
    assert job.id is not None
    return RankedJob(key, job.id, job.launcher, job.world_size, tuple(ranks))


def _allocated(process: ProcessState) -> int:
    devices = process.snapshot.devices if process.snapshot is not None else ()
    on_accelerators = [memory for memory in devices if memory.device not in ("cpu", "meta")]
    held = [memory.models_bytes if memory.allocated_bytes is None else memory.allocated_bytes for memory in on_accelerators]
    return sum(held) or sum(memory.models_bytes for memory in devices if memory.device == "cpu")
