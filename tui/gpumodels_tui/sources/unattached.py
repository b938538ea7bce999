"""Which processes on the GPUs have no sidecar, and what is known of them from outside, added to the devices' state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from gpumodels_shared.liveness import Liveness
from gpumodels_shared.records import replace
from gpumodels_tui.outside.facts import Wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gpumodels_tui.outside.facts import OutsideFacts
    from gpumodels_tui.sources.feed import FeedState
    from gpumodels_tui.sources.gpus import GpuProcess, HardwareState
    from gpumodels_tui.sources.opening import Sources


class Looks(Protocol):
    """What is known from outside: `OutsideLooks`, or what stands in for it."""

    def see(self, wanted: Sequence[Wanted]) -> Mapping[int, OutsideFacts]:
        """What is known by now."""

    def look_now(self, wanted: Sequence[Wanted]) -> Mapping[int, OutsideFacts]:
        """What is known after looking."""

    def stop(self) -> None:
        """End looking."""


class Unattached:
    """Looks at the processes without a sidecar; what that takes is imported with the first of them."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._looks: Looks | None = None
        self._told: dict[int, tuple[GpuProcess, GpuProcess]] = {}
        """By pid: the process as the kernel describes it, and the same with what is known from outside."""

    def see(self, hardware: HardwareState, feed: FeedState) -> HardwareState:
        """The state with what is known by now; another thread looks meanwhile."""
        return self._with_facts(hardware, feed, lambda looks: looks.see)

    def look_now(self, hardware: HardwareState, feed: FeedState) -> HardwareState:
        """The state with what is known after looking at each process."""
        return self._with_facts(hardware, feed, lambda looks: looks.look_now)

    def stop(self) -> None:
        """End looking."""
        if self._looks is not None:
            self._looks.stop()

    def _with_facts(
        self,
        hardware: HardwareState,
        feed: FeedState,
        chosen: Callable[[Looks], Callable[[Sequence[Wanted]], Mapping[int, OutsideFacts]]],
    ) -> HardwareState:
        wanted = wanted_in(hardware, feed)
        if self._looks is None:
            if not wanted:
                return hardware
            self._looks = self._sources.outside()
        known = chosen(self._looks)(wanted)
        if not known:
            return hardware
        running = {
            pid: process if (facts := known.get(pid)) is None else self._told_of(process, facts)
            for pid, process in hardware.running.items()
        }
        self._told = {pid: told for pid, told in self._told.items() if pid in running}
        return replace(hardware, running=running)

    def _told_of(self, process: GpuProcess, facts: OutsideFacts) -> GpuProcess:
        """The process with these facts: the same object as long as nothing changes."""
        told = self._told.get(process.pid)
        if told is None or told[0] is not process or told[1].outside is not facts:
            told = self._told[process.pid] = process, replace(process, outside=facts)
        return told[1]


def wanted_in(hardware: HardwareState, feed: FeedState) -> list[Wanted]:
    """The processes that a driver names and no living sidecar is in, those with the most bytes first."""
    attached = {one.driver_pid for one in feed.processes if one.liveness in (Liveness.LIVE, Liveness.STALLED)}
    used: dict[int, int | None] = {}
    for gpu in hardware.gpus:
        for pid, size in gpu.processes.items():
            if pid not in attached and pid in hardware.running:
                used[pid] = size if used.get(pid) is None else (used[pid] or 0) + (size or 0)
    order = sorted(used, key=lambda pid: (-(used[pid] or 0), pid))
    return [Wanted(pid, hardware.running[pid].command, used[pid]) for pid in order]
