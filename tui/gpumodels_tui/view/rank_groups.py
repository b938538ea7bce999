"""Draws a model that is in several ranks of one job as one row, which unfolds into a row for each rank."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from gpumodels_shared.records import Record
from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.units import format_bytes
from gpumodels_tui.view.jobs import counted_ranks, imbalance_in_words, job_key
from gpumodels_tui.view.model_facts import MOST_LISTED, Fact
from gpumodels_tui.view.rows import DeviceRow, ModelRow

RowKey = tuple[str, str]
GROUP: Final = "job"
"""Stands in the key of a group where that of a row has its device."""


class RankShare(Record):
    """What one rank holds of the model on one device."""

    rank: int
    pid: int
    device: str
    on_bytes: int


class RankGroup(Record):
    """The rows of one model in several ranks, on the devices of one list."""

    key: RowKey
    name: str
    kind: str
    shares: tuple[RankShare, ...]
    """In the order of the ranks."""
    members: tuple[RowKey, ...]
    """The keys of the rows, in the same order."""
    process: str
    """What the processes are called."""
    process_key: str
    """The first rank's."""
    world_size: int | None
    off_bytes: int
    total_bytes: int | None
    """Of the devices that it is on, together."""
    layers: int
    dtype: str
    loaded_at_ns: int
    """When the first rank loaded it."""
    job: str
    """Launcher and id, in words."""
    last_used_ns: int | None = None
    """When the last rank used it; None if that isn't known of all of them."""

    @property
    def on_bytes(self) -> int:
        """Bytes of all ranks."""
        return sum(share.on_bytes for share in self.shares)

    @property
    def sizes(self) -> list[int]:
        """Bytes by rank."""
        sums: dict[int, int] = {}
        for share in self.shares:
            sums[share.rank] = sums.get(share.rank, 0) + share.on_bytes
        return list(sums.values())

    @property
    def counted(self) -> str:
        """`4 ranks`, `4 of 8 ranks`."""
        return counted_ranks(len(self.sizes), self.world_size)

    @property
    def devices(self) -> str:
        """The devices' labels, each once: `0-3`, `0,2`."""
        labels = list(dict.fromkeys(share.device for share in self.shares))
        numbers = sorted(int(label) for label in labels if label.isdecimal())
        if len(numbers) == len(labels) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
            return f"{numbers[0]}-{numbers[-1]}"
        return ",".join(labels)

    @property
    def summary(self) -> str:
        """`4 ranks, +14 %`."""
        return ", ".join(part for part in (self.counted, imbalance_in_words(self.sizes)) if part)


def rank_groups(rows: Iterable[tuple[DeviceRow, ModelRow]]) -> list[RankGroup]:
    """The groups among these rows: the same model in at least two ranks of one job."""
    found: dict[str, list[tuple[DeviceRow, ModelRow]]] = {}
    for device, row in rows:
        if (key := job_key(row.process_state)) is not None:
            found.setdefault(f"{key}/{row.kind}/{row.model.class_name}/{row.name}", []).append((device, row))
    groups = []
    for key, members in found.items():
        if len({_rank(row) for _, row in members}) > 1:
            groups.append(_group((GROUP, key), sorted(members, key=lambda one: (_rank(one[1]), one[1].key, one[0].number))))
    return groups


def members_of(groups: Iterable[RankGroup]) -> Mapping[RowKey, RankGroup]:
    """The group of each row that is in one."""
    return {member: group for group in groups for member in group.members}


def headline_of_group(group: RankGroup) -> str:
    """Name, kind, bytes and ranks: `Llama-3.1-8B (llm, 15.0 GB, 4 ranks)`."""
    return f"{safe_text(group.name, 300)} ({safe_text(group.kind, 20)}, {format_bytes(group.on_bytes)}, {group.counted})"


def facts_of_group(group: RankGroup) -> list[Fact]:
    """What the facts panel says of the model in all ranks."""
    sizes = group.sizes
    spread = imbalance_in_words(sizes)
    each = f"{format_bytes(min(sizes))} to {format_bytes(max(sizes))} each" if min(sizes) != max(sizes) else ""
    described = ", ".join(part for part in (each or f"{format_bytes(min(sizes))} each", spread) if part)
    by_rank = [f"{one.rank}: {format_bytes(one.on_bytes)} on {safe_text(one.device, 40)}" for one in group.shares[:MOST_LISTED]]
    more = len(group.shares) - MOST_LISTED
    return [
        Fact("ranks", f"{group.counted}, {described}"),
        Fact("by rank", "; ".join(by_rank) + (f"; and {more} more" if more > 0 else "")),
        Fact("job", group.job),
        Fact("process", safe_text(group.process, 200)),
        Fact("layers", f"{group.layers:,} in the first rank"),
    ]


def _group(key: RowKey, members: Sequence[tuple[DeviceRow, ModelRow]]) -> RankGroup:
    first = members[0][1]
    snapshot = first.process_state.snapshot
    assert snapshot is not None
    info = snapshot.process
    totals = {device.key: device.total_bytes for device, _ in members}
    known = [total for total in totals.values() if total]
    used = [row.last_used_ns for _, row in members]
    return RankGroup(
        key=key,
        name=first.name,
        kind=first.kind,
        shares=tuple(RankShare(_rank(row), row.process_state.shown_pid, device.label, row.on_bytes) for device, row in members),
        members=tuple((device.key, row.key) for device, row in members),
        process=safe_text(info.label, 200),
        process_key=first.process_state.key,
        world_size=None if info.job is None else info.job.world_size,
        off_bytes=sum(row.off_bytes for _, row in members),
        total_bytes=sum(known) if len(known) == len(totals) else None,
        layers=first.layers,
        dtype=first.dtype,
        loaded_at_ns=min(row.loaded_at_ns for _, row in members),
        job=safe_text(" ".join(filter(None, (info.job.launcher, info.job.id))) if info.job is not None else "", 300),
        last_used_ns=None if None in used else max(filter(None, used), default=None),
    )


def _rank(row: ModelRow) -> int:
    snapshot = row.process_state.snapshot
    rank = snapshot.process.rank if snapshot is not None else None
    assert rank is not None
    return rank
