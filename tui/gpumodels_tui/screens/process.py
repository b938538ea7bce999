"""One process: what it is, where its memory went, its models, and how its sidecar does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import ClassVar, Final

from msgspec.structs import replace
from rich.text import Text
from textual import events, on
from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Static

from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.units import format_bytes
from gpumodels_tui.listing import entries
from gpumodels_tui.process_facts import facts_of_process
from gpumodels_tui.process_rows import ProcessDevice, ProcessRow
from gpumodels_tui.screens.asked import ModelAsked
from gpumodels_tui.screens.list_screen import ListScreen
from gpumodels_tui.theme import HEADING, MUTED, STYLES, WARNING
from gpumodels_tui.view_model import DeviceRow, ModelRow, View
from gpumodels_tui.widgets.facts_panel import FactsPanel
from gpumodels_tui.widgets.line_table import LineTable
from gpumodels_tui.widgets.memory_bar import legend, memory_bar
from gpumodels_tui.widgets.model_table import ModelTable

LEAST_DEVICES: Final = 1
LINES_PER_DEVICE: Final = 3
FACTS_AT_24_LINES: Final = 6


class ProcessScreen(ListScreen):
    """Follows its process from view to view; after it is gone, what was last seen stays."""

    shows: ClassVar[str] = "process"
    AUTO_FOCUS = "ModelTable"

    DEFAULT_CSS = """
    ProcessScreen #title { height: 1; padding: 0 2; }
    ProcessScreen #gone { height: 1; padding: 0 2; display: none; }
    ProcessScreen.-gone > #gone { display: block; }
    ProcessScreen.-no-room > #gone { display: none; }
    ProcessScreen FactsPanel { height: auto; max-height: 8; overflow: hidden; }
    ProcessScreen #memory { height: auto; padding: 0 2; margin: 1 0; }
    ProcessScreen ModelTable { height: 1fr; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab,shift+tab", "pane", "Pane", show=False, id="process.pane", tooltip="To the facts, and to the models again"),
    ]

    def __init__(self, key: str, clock: Callable[[], float] = time.time) -> None:
        """Args:
        key: `ProcessRow.key`.
        clock: Seconds since the epoch.
        """
        super().__init__()
        self._key = key
        self._clock = clock
        self._table = ModelTable(clock=clock)
        self._row: ProcessRow | None = None

    @property
    def process(self) -> ProcessRow | None:
        """As it was last seen."""
        return self._row

    @property
    def process_key(self) -> str:
        """This one."""
        return self._key

    @property
    def model(self) -> ModelRow | None:
        """The one under the cursor."""
        entry = self._table.cursor_row
        return None if entry is None else entry.row

    def content(self) -> Iterator[Widget]:
        """Facts, bars, models."""
        yield Static(id="title")
        yield Static(Text("Gone: this is how it was last seen. Esc goes back.", STYLES[WARNING]), id="gone")
        yield FactsPanel(most=FACTS_AT_24_LINES)
        yield Static(id="memory")
        yield self._table

    def on_resize(self, event: events.Resize) -> None:
        """Bars are as wide as the screen."""
        super().on_resize(event)
        self.filtered()

    def list_widget(self) -> Widget:
        """Its models."""
        return self._table

    def filtered(self) -> None:
        """With other words."""
        if self.view is not None and self.is_mounted:
            self.show(self.view)

    def go_to_match(self, step: int) -> None:
        """Among its models."""
        self._table.go_to_match(step)

    def show(self, view: View) -> None:
        """Draw what differs from before."""
        row = next((row for row in view.process_rows if row.key == self._key), None)
        self.set_class(row is None, "-gone")
        if row is not None:
            self._row = row
            table = self._table
            table.show_devices(True)
            table.show(entries(_its_own(row, view), None, self.words))
        if self._row is not None:
            _update(
                self.query_one("#title", Static),
                Text(safe_text(self._row.title, 300), STYLES[HEADING], no_wrap=True, overflow="ellipsis"),
            )
            self.query_one(FactsPanel).show(facts_of_process(self._row, self._clock()))
            bars = _bars(self._row, self.size.width - 4, max((self.size.height - 14) // LINES_PER_DEVICE, LEAST_DEVICES))
            memory = self.query_one("#memory", Static)
            if memory.content != bars:
                memory.update(bars)

    def action_pane(self) -> None:
        """The other one."""
        facts = self.query_one(FactsPanel)
        (self._table if facts.has_focus else facts).focus()

    @on(LineTable.Opened)
    def _opened(self) -> None:
        entry = self._table.cursor_row
        if entry is not None and entry.row is not None:
            self.post_message(ModelAsked(entry.device.key, entry.row.key))


def _its_own(process: ProcessRow, view: View) -> list[DeviceRow]:
    """The devices with this process's models alone, and with its bars: the marks beside names are of these."""
    parts = {device.key: device.parts for device in process.devices}
    return [
        replace(
            device,
            models=tuple(row for row in device.models if row.process_state.key == process.key),
            parts=parts.get(device.key, ()),
            unattached=(),
        )
        for device in view.devices
    ]


def _bars(row: ProcessRow, width: int, most: int) -> Text:
    """Per device its name, its bar, and which mark is what; those that hold the most, as many as have room."""
    devices = sorted((device for device in row.devices if device.parts), key=lambda device: -_held(device))
    shown, hidden = devices[:most], devices[most:]
    lines = [] if devices else [Text("It holds no memory on any device.", STYLES[MUTED])]
    for device in shown:
        held = _held(device)
        total = f" of {format_bytes(device.total_bytes)}" if device.total_bytes else ""
        lines.append(
            Text.assemble(
                (safe_text(device.title, 100), STYLES[HEADING]),
                (f"  {format_bytes(held)}{total}", STYLES[MUTED]),
                no_wrap=True,
                overflow="ellipsis",
            )
        )
        bar = memory_bar(device.parts, max(held, 1), width)
        lines.append(Text.assemble(*((words, STYLES[role]) for words, role in bar), no_wrap=True))
        lines.append(legend(device.parts, None, width))
    if hidden:
        lines.append(Text(f"and {len(hidden)} more devices, {format_bytes(sum(map(_held, hidden)))}", STYLES[MUTED]))
    return Text("\n").join(lines)


def _held(device: ProcessDevice) -> int:
    return sum(part.size_bytes for part in device.parts)


def _update(static: Static, text: Text) -> None:
    if static.content != text:
        static.update(text, layout=False)
