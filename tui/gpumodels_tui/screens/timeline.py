"""What happened, with times, and the memory of each GPU over the last hour."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import ClassVar, Final

from rich.text import Text
from textual import events, on
from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Static

from gpumodels_shared.safe_text import safe_text
from gpumodels_tui.devices import HOST
from gpumodels_tui.history import Event
from gpumodels_tui.screens.asked import ModelAsked
from gpumodels_tui.screens.list_screen import ListScreen
from gpumodels_tui.theme import HEADING, MUTED, STYLES, WARNING
from gpumodels_tui.view_model import ModelRow, View
from gpumodels_tui.widgets.event_table import EventTable
from gpumodels_tui.widgets.line_table import LineTable
from gpumodels_tui.widgets.memory_graph import MemoryGraph
from gpumodels_tui.widgets.notices import counted

GRAPH_SHARE: Final = 0.35
"""Of the screen's lines."""


class TimelineScreen(ListScreen):
    """Of all models, or of one."""

    shows: ClassVar[str] = "timeline"
    tells_history: ClassVar[bool] = True
    AUTO_FOCUS = "EventTable"

    DEFAULT_CSS = """
    TimelineScreen #title { height: 1; padding: 0 2; }
    TimelineScreen MemoryGraph { margin-bottom: 1; }
    TimelineScreen EventTable { height: 1fr; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("o", "only", "Only this", id="timeline.only", tooltip="Only what happened to this model; and everything again"),
        Binding(
            "enter",
            "open",
            "Layers",
            key_display="Enter",
            id="timeline.open",
            tooltip="Open the event's model",
        ),
    ]

    def __init__(self, model_key: str | None = None, clock: Callable[[], float] = time.time) -> None:
        """Args:
        model_key: The model under the cursor where one comes from: `o` shows its events alone.
        clock: Seconds since the epoch.
        """
        super().__init__()
        self._model_key = model_key
        self._only: str | None = None
        self._clock = clock
        self._table = EventTable(clock=clock)

    def content(self) -> Iterator[Widget]:
        """Graphs above, events below."""
        yield Static(id="title")
        yield MemoryGraph()
        yield self._table

    def on_resize(self, event: events.Resize) -> None:
        """The graphs take their share of the lines."""
        super().on_resize(event)
        self.filtered()

    @property
    def event(self) -> Event | None:
        """The one under the cursor."""
        return self._table.cursor_row

    @property
    def model(self) -> ModelRow | None:
        """Of the event under the cursor, if it is still there."""
        key = None if self.event is None else self.event.model_key
        devices = () if self.view is None else self.view.devices
        return next((row for device in devices for row in device.models if row.key == key), None)

    def list_widget(self) -> Widget:
        """The events."""
        return self._table

    def filtered(self) -> None:
        """With other words."""
        if self.view is not None and self.is_mounted:
            self.show(self.view)

    def go_to_match(self, step: int) -> None:
        """In the list of events."""
        self._table.go_to_match(step)

    def show(self, view: View) -> None:
        """Draw what differs from before."""
        devices = [device for device in view.devices if device.key != HOST] or list(view.devices)
        lines = max(int(self.size.height * GRAPH_SHARE), 1)
        self.query_one(MemoryGraph).show(devices, view.history, int(self._clock()), lines)
        words = self.words.casefold().split()
        shown = [event for event in view.history.events if self._is_asked_for(event, words)]
        self._table.show(shown)
        name = next((event.name for event in shown), "this model") if self._only is not None else ""
        title = Text.assemble(
            ("Timeline", STYLES[HEADING]),
            (f"  {counted(len(shown), 'event')}", STYLES[MUTED]),
            (f"  only {safe_text(name, 60)}; o shows all" if self._only is not None else "", STYLES[WARNING]),
            (f'  with "{safe_text(self.words)}"; Esc shows all' if self.words else "", STYLES[WARNING]),
            no_wrap=True,
            overflow="ellipsis",
        )
        heading = self.query_one("#title", Static)
        if heading.content != title:
            heading.update(title, layout=False)

    def action_only(self) -> None:
        """This model's, or everything."""
        if self._only is not None:
            self._only = None
        else:
            self._only = self._model_key or (None if self.event is None else self.event.model_key)
            if self._only is None:
                self.say("This event is about a process; choose one about a model.")
        self._model_key = None
        self.filtered()

    @on(LineTable.Opened)
    def _opened(self) -> None:
        self.action_open()

    def action_open(self) -> None:
        """Its layers."""
        model = self.model
        if model is None:
            self.say("That model is no longer there.")
        else:
            self.post_message(ModelAsked("", model.key))

    def _is_asked_for(self, event: Event, words: list[str]) -> bool:
        if self._only is not None and event.model_key != self._only:
            return False
        said = f"{event.name}\n{event.process}\n{event.kind.value}\n{event.device}".casefold()
        return all(word in said for word in words)
