"""When stages (a node of ComfyUI) began and ended, from one view to the next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from operator import attrgetter

from gpumodels_shared.records import Record
from gpumodels_shared.schema import Stage
from gpumodels_tui.sources.feed import ProcessState
from gpumodels_tui.view.rows import View

BEGAN = "began"
ENDED = "ended"


class StageEvent(Record):
    """A stage began or ended, at the time that its process says."""

    at_ns: int
    event: str
    """`began` or `ended`."""
    process: ProcessState
    stage: Stage


class StageChanges:
    """Compares each view's stages with those of the view before; those in the first are no news."""

    def __init__(self) -> None:
        self._known: dict[str, Mapping[tuple[str, int], bool]] | None = None
        """By process: the stages that were there, and whether they had ended."""

    def see(self, view: View) -> list[StageEvent]:
        """What is new, by time."""
        known = self._known
        self._known = {process.key: _states(process) for process in view.processes}
        events = (event for process in view.processes for event in _new(process, known)) if known is not None else ()
        return sorted(events, key=attrgetter("at_ns"))


def stage_events_since(view: View, since_ns: int) -> list[StageEvent]:
    """What the snapshots still say of stages that began or ended at this time or later."""
    events = [event for process in view.processes for event in _new(process, {}) if event.at_ns >= since_ns]
    return sorted(events, key=attrgetter("at_ns"))


def _states(process: ProcessState) -> dict[tuple[str, int], bool]:
    stages = process.snapshot.stages if process.snapshot is not None else ()
    return {(stage.id, stage.started_at_ns): stage.ended_at_ns is not None for stage in stages}


def _new(process: ProcessState, known: Mapping[str, Mapping[tuple[str, int], bool]]) -> Iterator[StageEvent]:
    before = known.get(process.key, {})
    for stage in process.snapshot.stages if process.snapshot is not None else ():
        had_ended = before.get((stage.id, stage.started_at_ns))
        if had_ended is None:
            yield StageEvent(stage.started_at_ns, BEGAN, process, stage)
        if stage.ended_at_ns is not None and not had_ended:
            yield StageEvent(stage.ended_at_ns, ENDED, process, stage)
