"""The table of events, newest first."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Final

from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.units import format_bytes
from gpumodels_tui.theme import ACCENT, BAR, MUTED, OFF, STRONG, WARNING
from gpumodels_tui.view.events import Event, EventKind
from gpumodels_tui.widgets.cells import Cell, text
from gpumodels_tui.widgets.columns import Column
from gpumodels_tui.widgets.line_table import LineTable
from gpumodels_tui.widgets.quantities import process_cell

SIGNS: Final = {
    EventKind.STARTED: ("*", STRONG),
    EventKind.LOADED: ("+", BAR),
    EventKind.MOVED_ON: (">", ACCENT),
    EventKind.MOVED_OFF: ("<", OFF),
    EventKind.GREW: ("+", MUTED),
    EventKind.SHRANK: ("-", MUTED),
    EventKind.UNLOADED: ("-", OFF),
    EventKind.RENAMED: ("=", MUTED),
    EventKind.STALLED: ("!", WARNING),
    EventKind.RESUMED: ("*", STRONG),
    EventKind.OUT_OF_MEMORY: ("!", WARNING),
    EventKind.EXITED: ("x", STRONG),
    EventKind.DIED: ("!", WARNING),
}


class EventTable(LineTable[Event]):
    """Events with their time, kind, model, bytes, device and process."""

    def __init__(self, *, clock: Callable[[], float] = time.time, id: str | None = None) -> None:
        """Args:
        clock: Returns seconds since the epoch; for events of other days the date is shown.
        """
        self._clock = clock
        super().__init__(
            [
                Column("time", self._time_cell, least=8, importance=8),
                Column("event", _kind_cell, least=17, most=18, importance=9),
                Column("model", _name_cell, least=20, most=60, importance=10),
                Column("bytes", _bytes_cell, least=7, right=True, importance=7),
                Column("gpu", lambda event, _: text(safe_text(event.device, 40), MUTED), least=6, importance=6),
                Column("process", lambda event, width: process_cell(event.process, width), least=10, most=34, importance=5),
            ],
            id=id,
        )

    def key_of(self, row: Event) -> Hashable:
        """The event's number."""
        return row.number

    def _time_cell(self, event: Event, width: int) -> Cell:
        at = time.localtime(event.at_ns // 10**9)
        today = time.localtime(self._clock())[:3] == at[:3]
        return text(time.strftime("%H:%M:%S" if today else "%d %b", at), MUTED)


def _kind_cell(event: Event, width: int) -> Cell:
    sign, role = SIGNS[event.kind]
    times = f" {event.times}×" if event.times > 1 else ""
    return text(f"{sign} {event.kind.value}{times}", role)


def _name_cell(event: Event, width: int) -> Cell:
    """The name of the model or process; for out of memory, the models in memory, since the process has its own column."""
    names = safe_text(", ".join(name for name, _ in event.held))
    if event.kind is EventKind.OUT_OF_MEMORY and names:
        return (*text("with ", MUTED), *text(names))
    return (*text(safe_text(event.name)), *text(f" with {names}" if names else "", MUTED))


def _bytes_cell(event: Event, width: int) -> Cell:
    return text(format_bytes(event.size_bytes)) if event.size_bytes else ()
