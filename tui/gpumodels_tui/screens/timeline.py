"""What happened, with times, and the memory of each GPU over the last hour."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Final

from rich.console import RenderableType
from rich.text import Text
from textual import events, on
from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Static

from gpumodels_shared.safe_text import safe_text
from gpumodels_tui.screens.asked import ModelAsked, ProcessAsked
from gpumodels_tui.screens.device_keys import ALL, device_keys
from gpumodels_tui.screens.list_screen import ListScreen
from gpumodels_tui.screens.text_screen import TextScreen
from gpumodels_tui.theme import HEADING, MUTED, STYLES, WARNING
from gpumodels_tui.view.device_names import HOST, in_words
from gpumodels_tui.view.event_facts import ENDS, facts_of_event, what_was_there
from gpumodels_tui.view.events import Event, EventKind
from gpumodels_tui.view.rows import DeviceRow, ModelRow, View
from gpumodels_tui.widgets.event_table import EventTable
from gpumodels_tui.widgets.facts_panel import facts_table, headed
from gpumodels_tui.widgets.memory_graph import MemoryGraph
from gpumodels_tui.widgets.notices import counted
from gpumodels_tui.widgets.table_messages import RowOpened

if TYPE_CHECKING:
    from gpumodels_tui.widgets import explained

FACTS_BOX_COLUMNS: Final = 76
GRAPH_SHARE: Final = 0.35
"""Of the screen's lines."""


class TimelineScreen(ListScreen):
    """Of all models, or of one."""

    shows: ClassVar[str] = "timeline"
    tells_history: ClassVar[bool] = True
    AUTO_FOCUS = "EventTable"

    DEFAULT_CSS = """
    TimelineScreen #title { height: 1; padding: 0 2; }
    TimelineScreen EventTable { height: 1fr; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "enter",
            "open",
            "Open",
            key_display="Enter",
            id="timeline.open",
            tooltip="Open the event's model or process; of what ran out or ended, what was there",
        ),
        Binding("o", "only", "Only this", id="timeline.only", tooltip="Only what happened to this model; and everything again"),
        Binding("i", "facts", "Facts", show=False, id="timeline.facts", tooltip="All that is known of the event"),
        *device_keys("timeline", "Graphs and events of all devices", show=False),
    ]

    def __init__(self, model_key: str | None = None, clock: Callable[[], float] = time.time) -> None:
        """Args:
        model_key: The model under the cursor where one comes from: `o` shows its events alone.
        clock: Seconds since the epoch.
        """
        super().__init__()
        self._model_key = model_key
        self._only: str | None = None
        self._chosen: str = ALL
        """A device's key, or all."""
        self._has_events = False
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
    def process_key(self) -> str | None:
        """Of the event under the cursor."""
        return None if self.event is None else self.event.process_key

    @property
    def device(self) -> DeviceRow | None:
        """The chosen one; None where all are."""
        devices = () if self.view is None else self.view.devices
        return next((device for device in devices if device.key == self._chosen), None)

    @property
    def model(self) -> ModelRow | None:
        """Of the event under the cursor, if it is still there."""
        key = None if self.event is None else self.event.model_key
        devices = () if self.view is None else self.view.devices
        return next((row for device in devices for row in device.models if row.key == key), None)

    def explained(self) -> Sequence[explained.Group]:
        """Its marks and short titles."""
        from gpumodels_tui.widgets.explained import EVENTS

        return EVENTS

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
        chosen = self.device
        devices = [device for device in view.devices if device.key != HOST] or list(view.devices)
        lines = max(int(self.size.height * GRAPH_SHARE), 1)
        self.query_one(MemoryGraph).show(devices if chosen is None else [chosen], view.history, int(self._clock()), lines)
        words = self.words.casefold().split()
        shown = [event for event in view.history.events if self._is_asked_for(event, words)]
        self._table.show(shown)
        if self._has_events is not bool(shown):
            self._has_events = bool(shown)
            self.refresh_bindings()
        name = next((event.name for event in shown), "this model") if self._only is not None else ""
        title = Text.assemble(
            ("Timeline", STYLES[HEADING]),
            (f"  {counted(len(shown), 'event')}", STYLES[MUTED]),
            (f"  {in_words(chosen.label)} alone; 0 shows all" if chosen is not None else "", STYLES[WARNING]),
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

    def action_device(self, number: int) -> None:
        """Its graph and its events alone."""
        device = self._numbered(number)
        if device is not None:
            self._choose(device.key)

    def action_all_devices(self) -> None:
        """Everything again."""
        self._choose(ALL)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Numbers of devices that aren't there are greyed, and what needs an event where there is none."""
        if action == "device":
            return True if self._numbered(parameters[0]) is not None else None
        if action in ("open", "facts", "only"):
            return True if self._only is not None or (self.is_mounted and self.event is not None) else None
        return super().check_action(action, parameters)

    @on(RowOpened)
    def _opened(self) -> None:
        self.action_open()

    def action_open(self) -> None:
        """Its layers, or its process; of what is no more, what is known."""
        event, model = self.event, self.model
        rows = () if self.view is None else self.view.process_rows
        if model is not None:
            self.post_message(ModelAsked("", model.key))
        elif event is not None and event.kind is EventKind.STARTED and any(row.key == event.process_key for row in rows):
            self.post_message(ProcessAsked(event.process_key or ""))
        else:
            self.action_facts()

    def action_facts(self) -> None:
        """In a box."""
        event = self.event
        if event is None:
            return
        width = min(self.size.width * 92 // 100, FACTS_BOX_COLUMNS) - 6
        blocks: list[RenderableType] = [facts_table(facts_of_event(event), width, wrap=True)]
        if event.held:
            there = "It held" if event.kind is not EventKind.OUT_OF_MEMORY else "The models there"
            blocks += [Text(""), headed(there), facts_table(what_was_there(event.held), width, wrap=True)]
        elif event.model_key is not None and self.model is None:
            blocks += [Text(""), Text("That model is no longer there.", STYLES[MUTED])]
        elif event.kind in ENDS:
            blocks += [Text(""), Text("No model was there.", STYLES[MUTED])]
        self.app.push_screen(TextScreen(event.kind.value.capitalize(), blocks, closing_key="i", columns=FACTS_BOX_COLUMNS))

    def _choose(self, key: str) -> None:
        self._chosen = key
        self.filtered()

    def _numbered(self, number: object) -> DeviceRow | None:
        devices = () if self.view is None else self.view.devices
        return next((device for device in devices if device.number == number), None)

    def _is_asked_for(self, event: Event, words: list[str]) -> bool:
        if self._only is not None and event.model_key != self._only:
            return False
        if self.device is not None and event.device != self.device.label:
            return False
        held = "\n".join(name for name, _ in event.held)
        said = f"{event.name}\n{event.process}\n{event.kind.value}\n{event.device}\n{held}".casefold()
        return all(word in said for word in words)
