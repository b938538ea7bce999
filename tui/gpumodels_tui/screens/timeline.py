"""The timeline: events with their times, and each GPU's memory over time."""

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
from gpumodels_tui.screens.device_keys import ALL, device_keys
from gpumodels_tui.screens.facts_box import model_blocks, width_inside
from gpumodels_tui.screens.list_screen import ListScreen
from gpumodels_tui.screens.requested import DifferenceRequested, ModelRequested, ProcessRequested
from gpumodels_tui.screens.text_screen import TextScreen
from gpumodels_tui.theme import HEADING, MUTED, STYLES, WARNING
from gpumodels_tui.view.device_names import HOST, device_in_words
from gpumodels_tui.view.event_facts import ENDS, facts_of_event, facts_of_held_models
from gpumodels_tui.view.events import Event, EventKind
from gpumodels_tui.view.recorder import SAMPLE_SECONDS
from gpumodels_tui.view.rows import DeviceRow, ModelRow, View
from gpumodels_tui.widgets.event_table import EventTable
from gpumodels_tui.widgets.facts_panel import facts_table, headed
from gpumodels_tui.widgets.memory_graph import SPANS, MemoryGraph, span_holding, span_in_words
from gpumodels_tui.widgets.notices import counted
from gpumodels_tui.widgets.table_messages import RowOpened

if TYPE_CHECKING:
    from gpumodels_tui.widgets import explanations

FACTS_BOX_COLUMNS: Final = 76
SPANS_KEY: Final = "Graphs over a shorter, longer time"
GRAPH_SHARE: Final = 0.35
"""The share of the screen's lines that graphs may take."""


class TimelineScreen(ListScreen):
    """The timeline of all models, or of one."""

    shows: ClassVar[str] = "timeline"
    shows_history: ClassVar[bool] = True
    is_filtered: ClassVar[bool] = True
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
            tooltip="Open the event's model or process, or its details",
        ),
        Binding("o", "only", "Only this", id="timeline.only", tooltip="Show only this model's events, or all again"),
        Binding("i", "facts", "Facts", show=False, id="timeline.facts", tooltip="Facts about the event and its model"),
        Binding(
            "d", "compare", "Differs", show=False, id="timeline.compare", tooltip="What differs between before the event and now"
        ),
        Binding("left_square_bracket", "span(-1)", "Narrower", show=False, id="timeline.narrower", tooltip=SPANS_KEY),
        Binding("right_square_bracket", "span(1)", "Wider", show=False, id="timeline.wider", tooltip=SPANS_KEY),
        *device_keys("timeline", "Graphs and events of all devices", show=False),
    ]

    def __init__(self, model_key: str | None = None, clock: Callable[[], float] = time.time) -> None:
        """Args:
        model_key: The model under the cursor of the previous screen; `o` shows only its events.
        clock: Returns seconds since the epoch.
        """
        super().__init__()
        self._model_key = model_key
        self._only: str | None = None
        self._chosen: str = ALL
        """A device's key, or `ALL`."""
        self._span: int | None = None
        """The seconds that the graphs show; None for as many as are known."""
        self._has_events = False
        self._clock = clock
        self._table = EventTable(clock=clock)

    def content(self) -> Iterator[Widget]:
        """The title, the graphs and the list of events."""
        yield Static(id="title")
        yield MemoryGraph()
        yield self._table

    def on_resize(self, event: events.Resize) -> None:
        """Give the graphs their share of the lines."""
        super().on_resize(event)
        self.filtered()

    @property
    def event(self) -> Event | None:
        """The event under the cursor."""
        return self._table.cursor_row

    @property
    def process_key(self) -> str | None:
        """The process of the event under the cursor."""
        return None if self.event is None else self.event.process_key

    @property
    def device(self) -> DeviceRow | None:
        """The chosen device; None if all are chosen."""
        devices = () if self.view is None else self.view.devices
        return next((device for device in devices if device.key == self._chosen), None)

    @property
    def model(self) -> ModelRow | None:
        """The model of the event under the cursor, if it still exists."""
        key = None if self.event is None else self.event.model_key
        devices = () if self.view is None else self.view.everything.devices
        return next((row for device in devices for row in device.models if row.key == key), None)

    def explanations(self) -> Sequence[explanations.Group]:
        """Explanations of the events' and graphs' marks."""
        from gpumodels_tui.widgets.explanations import EVENTS

        return EVENTS

    def list_widget(self) -> Widget:
        """The list of events."""
        return self._table

    def filtered(self) -> None:
        """Show the events again after the filter or the size has changed."""
        if self.view is not None and self.is_mounted:
            self.show(self.view)

    def go_to_match(self, step: int) -> None:
        """Move the cursor to the next match in the list of events."""
        self._table.go_to_match(step)

    def show(self, view: View) -> None:
        """Draw the differences from the view shown before."""
        chosen = self.device
        devices = [device for device in view.devices if device.key != HOST] or list(view.devices)
        lines = max(int(self.size.height * GRAPH_SHARE), 1)
        graphs = devices if chosen is None else [chosen]
        self.query_one(MemoryGraph).show(graphs, view.history, *self._time_shown(view), lines)
        words = self.words.casefold().split()
        shown = [event for event in view.history.events if self._is_wanted(event, words)]
        self._table.show(shown)
        if self._has_events is not bool(shown):
            self._has_events = bool(shown)
            self.refresh_bindings()
        name = next((event.name for event in shown), "this model") if self._only is not None else ""
        title = Text.assemble(
            ("Timeline", STYLES[HEADING]),
            (f"  {counted(len(shown), 'event')}", STYLES[MUTED]),
            (f"  only {device_in_words(chosen.label)}; 0 shows all" if chosen is not None else "", STYLES[WARNING]),
            (f"  only {safe_text(name, 60)}; o shows all" if self._only is not None else "", STYLES[WARNING]),
            (f'  matching "{safe_text(self.words)}"; Esc shows all' if self.words else "", STYLES[WARNING]),
            no_wrap=True,
            overflow="ellipsis",
        )
        heading = self.query_one("#title", Static)
        if heading.content != title:
            heading.update(title, layout=False)

    def action_only(self) -> None:
        """Show only the events of the model under the cursor, or all events again."""
        if self._only is not None:
            self._only = None
        else:
            self._only = self._model_key or (None if self.event is None else self.event.model_key)
            if self._only is None:
                self.say("This event is about a process; choose one about a model.")
        self._model_key = None
        self.filtered()

    def action_compare(self) -> None:
        """Say what differs between the moment before the event under the cursor and the one that is shown."""
        if self.event is not None:
            self.post_message(DifferenceRequested(self.event.at_ns))

    def action_span(self, step: int) -> None:
        """Show the graphs over a shorter or a longer time."""
        if self.view is not None:
            position = SPANS.index(self._time_shown(self.view)[1]) + step
            self._span = SPANS[min(max(position, 0), len(SPANS) - 1)]
            self.filtered()
            self.say(f"graphs over the last {span_in_words(self._span)}")

    def _time_shown(self, view: View) -> tuple[int, int]:
        """The time at the right of the graphs, and how many seconds they show."""
        now = int(self._clock())
        samples = [values for values in view.history.samples.values() if values]
        # Between two samples there is nothing new to draw.
        newest = max((values[-1][0] for values in samples), default=now)
        if 0 <= now - newest <= 2 * SAMPLE_SECONDS:
            now = newest
        known = [values[0][0] for values in samples]
        failed = [event.at_ns // 10**9 for event in view.history.events if event.kind is EventKind.OUT_OF_MEMORY]
        known += [at for at in failed if now - at < SPANS[-1]]
        return now, self._span or span_holding(now - min(known, default=now))

    def action_device(self, number: int) -> None:
        """Show only the graph and the events of this device."""
        device = self._device_numbered(number)
        if device is not None:
            self._choose(device.key)

    def action_all_devices(self) -> None:
        """Show the graphs and events of all devices."""
        self._choose(ALL)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Disable the numbers of devices that don't exist, and keys that need an event if there is none."""
        if action == "device":
            return True if self._device_numbered(parameters[0]) is not None else None
        if action in ("open", "facts", "only", "compare"):
            return True if self._only is not None or (self.is_mounted and self.event is not None) else None
        return super().check_action(action, parameters)

    @on(RowOpened)
    def _opened(self) -> None:
        self.action_open()

    def action_open(self) -> None:
        """Open the event's model or process; if that no longer exists, the event's facts."""
        event, model = self.event, self.model
        rows = () if self.view is None else self.view.everything.process_rows
        if model is not None:
            self.post_message(ModelRequested("", model.key))
        elif event is not None and event.kind is EventKind.STARTED and any(row.key == event.process_key for row in rows):
            self.post_message(ProcessRequested(event.process_key or ""))
        else:
            self.action_facts()

    def action_facts(self) -> None:
        """Show the event's facts in a box."""
        event = self.event
        if event is None:
            return
        width = width_inside(FACTS_BOX_COLUMNS, self.size.width)
        blocks: list[RenderableType] = [facts_table(facts_of_event(event), width, wrap=True)]
        if event.held:
            title = "Models it held" if event.kind is not EventKind.OUT_OF_MEMORY else "Models in memory"
            blocks += [Text(""), headed(title), facts_table(facts_of_held_models(event.held), width, wrap=True)]
        elif self.model is not None:
            blocks += [Text(""), headed("The model now"), *model_blocks(self.model, width)]
        elif event.model_key is not None:
            blocks += [Text(""), Text("This model is no longer in memory.", STYLES[MUTED])]
        elif event.kind in ENDS:
            blocks += [Text(""), Text("No models were in memory.", STYLES[MUTED])]
        self.app.push_screen(TextScreen(event.kind.value.capitalize(), blocks, closing_key="i", columns=FACTS_BOX_COLUMNS))

    def _choose(self, key: str) -> None:
        self._chosen = key
        self.filtered()

    def _device_numbered(self, number: object) -> DeviceRow | None:
        devices = () if self.view is None else self.view.devices
        return next((device for device in devices if device.number == number), None)

    def _is_wanted(self, event: Event, words: list[str]) -> bool:
        if self._only is not None and event.model_key != self._only:
            return False
        if self.device is not None and not event.is_on(self.device.key, self.device.label):
            return False
        held = "\n".join(name for name, _ in event.held)
        text = f"{event.name}\n{event.process}\n{event.kind.value}\n{event.device}\n{held}".casefold()
        return all(word in text for word in words)
