"""All events from one view to the next, none folded into another: what streams print and recordings keep."""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter

from gpumodels_shared.schema import SMALL_MODELS_ID
from gpumodels_tui.view.events import Event, EventKind
from gpumodels_tui.view.recorder import events_between, initial_events
from gpumodels_tui.view.rows import ModelRow, View


class Changes:
    """Compares each view with the one before. The first has no events; `earlier` tells what the sidecars say of the past."""

    def __init__(self) -> None:
        self._before: View | None = None

    def see(self, view: View, now_ns: int) -> list[Event]:
        """The events since the view before, as they were noticed at this moment."""
        before, self._before = self._before, view
        if before is None or (before.devices is view.devices and before.processes is view.processes):
            return []
        return [*events_between(before, view, now_ns), *_renames(before, view, now_ns)]

    def earlier(self, since_ns: int) -> list[Event]:
        """What is known of the past of all that was in the last view: when processes started and models were loaded."""
        events = [] if self._before is None else list(initial_events(self._before))
        return sorted((event for event in events if event.at_ns >= since_ns), key=attrgetter("at_ns"))


def model_rows(view: View) -> dict[str, ModelRow]:
    """Each model once, by its key."""
    return {row.key: row for device in view.devices for row in device.models if row.model.id != SMALL_MODELS_ID}


def _renames(before: View, after: View, now_ns: int) -> Iterator[Event]:
    names = {key: row.name for key, row in model_rows(before).items()}
    for key, row in model_rows(after).items():
        old = names.get(key, row.name)
        if old != row.name:
            yield Event(
                0,
                now_ns,
                EventKind.RENAMED,
                row.name,
                row.process,
                model_key=key,
                process_key=row.process_state.key,
                previous_name=old,
            )
