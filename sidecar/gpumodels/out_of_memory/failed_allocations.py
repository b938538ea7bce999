"""Makes a record of each failed allocation: from the host's own errors, the allocators' counters, and the cgroup's limit.

What was in memory is told as it was at the last look before, since programs drop their models once memory ran out. What the error
itself tells is of the very moment, so it comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from gpumodels.out_of_memory.error_messages import Told
from gpumodels.out_of_memory.host_limit import HostLimit
from gpumodels.out_of_memory.noticing import MemoryErrors, Noticed
from gpumodels.out_of_memory.recent_changes import RecentChanges
from gpumodels.support.failures import Failures
from gpumodels.support.never_pickled import never_pickled
from gpumodels_shared.schema import DeviceMemory, Model, OutOfMemory, Stage
from gpumodels_shared.stage_ids import is_within

MAX_RECORDS: Final = 8
"""The last ones, which the snapshot holds."""
MAX_MODELS: Final = 64
SAME_NS: Final = 2 * 10**9
"""An error so long before the counter was seen to rise is the one that it counts."""
HOST: Final = "cpu"

EXPLAINED_NS: Final = 10 * 10**9
"""An error so long after the counter was seen to rise is still the one that it counted: it may pass many handlers."""

Keep = Callable[[OutOfMemory], str | None]
"""Writes a record beside the snapshot, over the one of the same moment, and tells its path; None where it can't be written."""


@never_pickled
@dataclass(frozen=True, slots=True)
class Look:
    """What was in memory at one moment."""

    at_ns: int
    """Realtime nanoseconds."""
    devices: Sequence[DeviceMemory] = ()
    models: Sequence[Model] = ()
    stages: Sequence[Stage] = ()


@never_pickled
class FailedAllocations:
    """The last records. Only `errors` is used in other threads than the sidecar's."""

    def __init__(self, failures: Failures, keep: Keep, host_limit: HostLimit | None = None) -> None:
        self.errors = MemoryErrors(failures)
        self._host_limit = HostLimit() if host_limit is None else host_limit
        self._keep = keep
        self._changes = RecentChanges()
        self._last: Look | None = None
        self._counts: dict[str, int] = {}
        self._uncounted: dict[str, list[int]] = {}
        """By device, when errors were noticed that its counter may not have counted yet."""
        self._unexplained: dict[str, OutOfMemory] = {}
        """By device, the last record of a failure that was only counted."""
        self._records: list[OutOfMemory] = []

    @property
    def records(self) -> tuple[OutOfMemory, ...]:
        """The last ones, oldest first."""
        return tuple(self._records)

    def update(self, look: Look) -> None:
        """Take what happened since the last look.

        Args:
            look: what is in memory now.
        """
        before = look if self._last is None else self._last
        grown = self._grown_counts(look)
        for noticed in self.errors.take():
            device = _device(noticed.told.device, grown, before)
            self._noticed(noticed._replace(told=noticed.told._replace(device=device)), before, look)
        for device, times in grown.items():
            if times > len(self._uncounted.pop(device, [])):
                counted = self._add(self._record(look.at_ns, "counter", Told("", device), before, look))
                self._unexplained[device] = counted
        self._uncounted = {
            device: recent
            for device, noted in self._uncounted.items()
            if (recent := [at_ns for at_ns in noted if look.at_ns - at_ns < SAME_NS])
        }
        if (said := self._host_limit.newly_failed()) is not None:
            told = Told(said, HOST, allocated_bytes=self._host_limit.used_bytes(), total_bytes=self._host_limit.limit_bytes())
            self._add(self._record(look.at_ns, "cgroup", told, before, look))
        self._changes.see(look.models, look.at_ns)
        self._last = look

    def _noticed(self, noticed: Noticed, before: Look, look: Look) -> None:
        """Record the failure that this error tells of, or add what it tells to the record of its counting."""
        told = noticed.told
        counted = self._unexplained.pop(told.device, None) if told.device is not None else None
        if counted is not None and noticed.at_ns - counted.at_ns < EXPLAINED_NS:
            said = {name: value for name, value in told._asdict().items() if value}
            self._add(replace(counted, noticed_by="exception", **said), instead_of=counted)
            return
        self._add(self._record(noticed.at_ns, "exception", told, before, look))
        if told.device is not None and told.device != HOST:
            self._uncounted.setdefault(told.device, []).append(noticed.at_ns)

    def _add(self, record: OutOfMemory, instead_of: OutOfMemory | None = None) -> OutOfMemory:
        path = self._keep(record)
        kept = record if path is None else replace(record, record=path)
        self._records = [*(one for one in self._records if one is not instead_of), kept][-MAX_RECORDS:]
        return kept

    def _grown_counts(self, look: Look) -> dict[str, int]:
        """By device, how many failures its allocator has counted since the last look; what it counted before us doesn't count."""
        grown: dict[str, int] = {}
        for memory in look.devices:
            if memory.out_of_memory_count is not None:
                times = memory.out_of_memory_count - self._counts.get(memory.device, 0)
                self._counts[memory.device] = memory.out_of_memory_count
                if times > 0 and self._last is not None:
                    grown[memory.device] = times
        return grown

    def _record(self, at_ns: int, noticed_by: str, told: Told, before: Look, look: Look) -> OutOfMemory:
        memory = next((one for one in before.devices if one.device == told.device), None)
        held = [(model.name, model.bytes_by_device.get(told.device or "", 0)) for model in before.models]
        largest = sorted(((name, size) for name, size in held if size), key=lambda one: (-one[1], one[0]))
        seen = memory if memory is not None and noticed_by != "cgroup" else DeviceMemory("", 0)
        return OutOfMemory(
            at_ns=at_ns,
            device=told.device,
            noticed_by=noticed_by,
            message=told.message or None,
            requested_bytes=told.requested_bytes,
            allocated_bytes=_told_or_seen(told.allocated_bytes, seen.allocated_bytes),
            reserved_bytes=_told_or_seen(told.reserved_bytes, seen.reserved_bytes),
            free_bytes=told.free_bytes,
            total_bytes=_told_or_seen(told.total_bytes, seen.total_bytes),
            looked_at_ns=before.at_ns,
            parts=_parts(memory),
            models=tuple(largest[:MAX_MODELS]),
            stage=_stage(look.stages, before.at_ns if noticed_by == "counter" else at_ns, at_ns),
            recent=self._changes.until(at_ns),
        )


def _told_or_seen(told: int | None, seen: int | None) -> int | None:
    return seen if told is None else told


def _stage(stages: Sequence[Stage], since_ns: int, until_ns: int) -> str | None:
    """What ran then, the innermost of stages within each other; None if nothing did, or several beside each other."""
    ran = [one for one in stages if one.started_at_ns <= until_ns and since_ns <= (one.ended_at_ns or until_ns)]
    names = {one.name for one in ran if not any(is_within(other.id, one.id) for other in ran)}
    return names.pop() if len(names) == 1 else None


def _device(told: str | None, grown: Mapping[str, int], before: Look) -> str | None:
    """The device with its index, where the error names none but only one is possible."""
    if told is not None and (told == HOST or ":" in told):
        return told
    kind = "" if told is None else f"{told}:"
    possible = [device for device in grown if device.startswith(kind)]
    possible = possible or [
        memory.device for memory in before.devices if memory.device != HOST and memory.device.startswith(kind)
    ]
    return possible[0] if len(possible) == 1 else told


def _parts(memory: DeviceMemory | None) -> dict[str, int]:
    """The parts of the device's memory that are known, without empty ones."""
    if memory is None:
        return {}
    parts = {
        "weights": memory.models_bytes,
        "gradients": memory.gradients_bytes,
        "optimizer": memory.optimizer_bytes,
        "caches": memory.cache_bytes,
        "other": memory.other_bytes,
    }
    if memory.reserved_bytes is not None and memory.allocated_bytes is not None:
        parts["allocator cache"] = max(0, memory.reserved_bytes - memory.allocated_bytes)
    return {name: size for name, size in parts.items() if size}
