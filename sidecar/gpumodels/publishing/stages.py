"""Turns what the host ran into a snapshot's stages: when each ran, what it did to memory, which files it named."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from gpumodels.hooks.stage_events import Moment, StageEnded, StageEvents, StageStarted
from gpumodels.provenance.files_named import FilesNamed, NamingRun
from gpumodels.support.accelerator_memory import peak_between
from gpumodels.support.never_pickled import never_pickled
from gpumodels_shared.schema import Stage

MAX_STAGES: Final = 32
HOST: Final = "cpu"


@never_pickled
@dataclass(slots=True)
class _HostBytes:
    """The bytes of models in host memory at one moment, as a scan finds out later; None if too much happened until then."""

    contents_version: int
    size_bytes: int | None = None
    is_decided: bool = False

    def scanned(self, contents_version: int, size_bytes: int) -> None:
        """Take the sum of a scan, if there were the same models as at the moment."""
        if not self.is_decided and contents_version >= self.contents_version:
            self.is_decided = True
            self.size_bytes = size_bytes if contents_version == self.contents_version else None


@never_pickled
@dataclass(slots=True)
class _Run:
    """A stage, over or not."""

    start: StageStarted
    host_before: _HostBytes
    ended: Moment | None = None
    host_after: _HostBytes | None = None
    files: tuple[str, ...] = ()
    needs_files: bool = True


@never_pickled
class Stages:
    """The last stages, and those that run now. Only the sidecar's thread uses it."""

    def __init__(self, events: StageEvents, files_named: FilesNamed) -> None:
        self._events = events
        self._files_named = files_named
        self._runs: dict[int, _Run] = {}
        self._last_scan = (-1, 0)
        """At which version the last scan saw the models, and their bytes in host memory."""

    def update(self) -> None:
        """Take what happened since the last call."""
        running = self._events.running_now()  # before the events are taken: what doesn't run by now has its end among these
        events = self._events.take()
        waiting = [number for number, run in self._runs.items() if run.ended is None and number not in running]
        for event in _without_brief(events):
            if isinstance(event, StageStarted):
                run = self._runs[event.number] = _Run(event, self._host_bytes(event.moment))
                self._note(run)
            elif (known := self._runs.get(event.number)) is not None:
                known.ended, known.host_after = event.moment, self._host_bytes(event.moment)
                known.needs_files = True  # of files with the same name, the one that was read is known by now
                self._note(known)
        for number in waiting:
            if self._runs[number].ended is None:
                del self._runs[number]  # more happened than the queue holds, and its end was lost
        over = [number for number, run in self._runs.items() if run.ended is not None]
        for number in over[: max(0, len(self._runs) - MAX_STAGES)]:
            del self._runs[number]

    def scanned(self, contents_version: int, host_bytes: int) -> None:
        """Take the sum of all models in host memory, of a scan that saw them as they were at this version."""
        self._last_scan = contents_version, host_bytes
        for run in self._runs.values():
            for moment in (run.host_before, run.host_after):
                if moment is not None:
                    moment.scanned(contents_version, host_bytes)

    def find_files(self, pause: Callable[[], None]) -> None:
        """Find the files that the stages' inputs name, which asks file systems."""
        for run in list(self._runs.values()):
            if run.needs_files:
                run.needs_files = False
                run.files = self._files_named.resolve(run.start.named, run.start.moment.at_ns, pause)
                self._note(run)

    def stages(self) -> tuple[Stage, ...]:
        """The last runs, oldest first."""
        return tuple(map(_stage, list(self._runs.values())[-MAX_STAGES:]))

    def _host_bytes(self, moment: Moment) -> _HostBytes:
        known = _HostBytes(moment.contents_version)
        known.scanned(*self._last_scan)
        return known

    def _note(self, run: _Run) -> None:
        if not run.start.named:
            run.needs_files = False
            return
        ended_ns = run.ended.at_ns if run.ended is not None else None
        self._files_named.put(NamingRun(run.start.number, run.start.moment.at_ns, ended_ns, run.files))


def _without_brief(events: Sequence[StageStarted | StageEnded]) -> Iterator[StageStarted | StageEnded]:
    """The events without those of stages that began and ended within them, but for the last: a loop may have thousands."""
    ended = {event.number for event in events if isinstance(event, StageEnded)}
    brief = [event.number for event in events if isinstance(event, StageStarted) and not event.named and event.number in ended]
    left_out = set(brief[:-MAX_STAGES])
    return (event for event in events if event.number not in left_out)


def _stage(run: _Run) -> Stage:
    started, ended = run.start.moment, run.ended
    latest = ended if ended is not None else started
    device, before, after, peak = HOST, run.host_before.size_bytes, None, None
    if latest.memory is None and started.memory is None:
        after = run.host_after.size_bytes if run.host_after is not None else None
    elif latest.memory is not None:
        device, first = latest.memory.device, started.memory
        before = 0 if first is None else first.allocated_bytes if first.device == device else None
        if ended is not None:
            after = latest.memory.allocated_bytes
            peak = peak_between(first, latest.memory) if first is not None and first.device == device else None
    return Stage(
        id=run.start.id,
        name=run.start.name,
        started_at_ns=started.at_ns,
        ended_at_ns=ended.at_ns if ended is not None else None,
        device=device,
        bytes_before=before,
        bytes_after=after,
        peak_bytes=peak,
        files=run.files,
    )
