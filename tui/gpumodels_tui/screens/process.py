"""One process: what it is, where its memory went, its models, and how its sidecar does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import ClassVar, Final

from msgspec.structs import replace
from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Static

from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.units import format_bytes
from gpumodels_tui.screens.model_list_screen import ModelListScreen
from gpumodels_tui.theme import HEADING, MUTED, STYLES, WARNING
from gpumodels_tui.view.listing import entries
from gpumodels_tui.view.process_facts import facts_of_process
from gpumodels_tui.view.process_rows import ProcessDevice, ProcessRow
from gpumodels_tui.view.rows import DeviceRow, View
from gpumodels_tui.widgets.cells import shortened
from gpumodels_tui.widgets.facts_panel import FactsPanel
from gpumodels_tui.widgets.memory_bar import legend, memory_bar
from gpumodels_tui.widgets.model_table import ModelTable
from gpumodels_tui.widgets.notices import counted

LINES_PER_DEVICE: Final = 3
MOST_FACTS: Final = 6
LINES_FOR_MODELS: Final = 3
"""That many at least, titles and two rows; and a quarter of the screen."""
LINES_AROUND: Final = 2
"""The title above, the keys below."""
LINES_FOR_BLANKS: Final = 16
"""From here on blank lines set the bars apart."""


class ProcessScreen(ModelListScreen):
    """Follows its process from view to view; after it is gone, what was last seen stays."""

    shows: ClassVar[str] = "process"

    DEFAULT_CSS = """
    ProcessScreen #title { height: 1; padding: 0 2; }
    ProcessScreen #gone { height: 1; padding: 0 2; display: none; }
    ProcessScreen.-gone > #gone { display: block; }
    ProcessScreen.-no-room > #gone { display: none; }
    ProcessScreen FactsPanel { height: auto; max-height: 8; overflow: hidden; }
    ProcessScreen FactsPanel:focus { overflow-y: auto; }
    ProcessScreen #memory { height: auto; padding: 0 2; }
    ProcessScreen.-roomy #memory { margin: 1 0; }
    ProcessScreen ModelTable { height: 1fr; }
    ProcessScreen #no-models { height: 1fr; padding: 0 2; display: none; }
    ProcessScreen.-modelless > ModelTable { display: none; }
    ProcessScreen.-modelless > #no-models { display: block; }
    ProcessScreen.-no-room > #no-models { display: none; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab,shift+tab", "pane", "Pane", show=False, id="process.pane", tooltip="To the facts, and to the models again"),
    ]

    def __init__(self, key: str, clock: Callable[[], float] = time.time) -> None:
        """Args:
        key: `ProcessRow.key`.
        clock: Seconds since the epoch.
        """
        super().__init__(ModelTable(clock=clock, of_one_process=True))
        self._key = key
        self._clock = clock
        self._row: ProcessRow | None = None

    @property
    def process(self) -> ProcessRow | None:
        """As it was last seen."""
        return self._row

    @property
    def process_key(self) -> str:
        """This one."""
        return self._key

    def content(self) -> Iterator[Widget]:
        """Facts, bars, models."""
        yield Static(id="title")
        yield Static(Text("Gone: this is how it was last seen. Esc goes back.", STYLES[WARNING]), id="gone")
        yield FactsPanel(most=MOST_FACTS)
        yield Static(id="memory")
        yield self._table
        yield Static(id="no-models")

    def on_resize(self, event: events.Resize) -> None:
        """Bars are as wide as the screen; facts and bars leave lines for the models."""
        super().on_resize(event)
        self.set_class(event.size.height >= LINES_FOR_BLANKS, "-roomy")
        self.filtered()

    def show(self, view: View) -> None:
        """Draw what differs from before."""
        row = next((row for row in view.process_rows if row.key == self._key), None)
        self.set_class(row is None, "-gone")
        if row is not None:
            self._row = row
            listed = entries(_its_own(row, view), self.order, self.words)
            self.keep_keys(not listed)
            self.set_class(not listed, "-modelless")
            _update(self.query_one("#no-models", Static), _no_models(row, self.words))
            self._table.show_devices(True)
            self._table.mark_sorted(self.order.column, self.order.is_descending)
            self._table.show(listed)
            self.keep_keys(not listed)
        if self._row is not None:
            _update(
                self.query_one("#title", Static),
                Text(safe_text(self._row.title, 300), STYLES[HEADING], no_wrap=True, overflow="ellipsis"),
            )
            self._show_facts_and_bars(self._row)

    def _show_facts_and_bars(self, row: ProcessRow) -> None:
        """As many as leave some lines for the models."""
        models = max(LINES_FOR_MODELS, self.size.height // 4)
        room = self.size.height - LINES_AROUND - models - (2 if self.has_class("-roomy") else 0)
        panel, facts = self.query_one(FactsPanel), facts_of_process(row, self._clock())
        panel.most = min(MOST_FACTS, max(room - LINES_PER_DEVICE, 1))
        panel.show(facts)
        shown = min(len(facts), panel.most)
        bars = _bars(row, self.size.width - 4, max((room - shown) // LINES_PER_DEVICE, 1))
        memory = self.query_one("#memory", Static)
        if memory.content != bars:
            memory.update(bars)

    def action_pane(self) -> None:
        """The other one."""
        facts = self.query_one(FactsPanel)
        (self._table if facts.has_focus else facts).focus()


def _no_models(row: ProcessRow, words: str) -> Text:
    """Why the list is empty."""
    if words:
        return Text(f'No model of it has "{safe_text(words)}" in its name, kind or files; Esc shows all.', STYLES[MUTED])
    if row.state is None:
        return Text("Its models are not known: no sidecar runs in it.", STYLES[MUTED])
    return Text("It holds no models now.", STYLES[MUTED])


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
        said = f"  {format_bytes(held)}" + (f" of {format_bytes(device.total_bytes)}" if device.total_bytes else "")
        lines.append(
            Text.assemble((shortened(safe_text(device.title, 100), width - len(said)), STYLES[HEADING]), (said, STYLES[MUTED]))
        )
        bar = memory_bar(device.parts, max(held, 1), width)
        lines.append(Text.assemble(*((words, STYLES[role]) for words, role in bar), no_wrap=True))
        lines.append(legend(device.parts, None, width))
    if hidden:
        rest = f"and {counted(len(hidden), 'more device')}, {format_bytes(sum(map(_held, hidden)))}"
        lines.append(Text(rest, STYLES[MUTED]))
    return Text("\n", no_wrap=True, overflow="ellipsis").join(lines)


def _held(device: ProcessDevice) -> int:
    return sum(part.size_bytes for part in device.parts)


def _update(static: Static, text: Text) -> None:
    if static.content != text:
        static.update(text, layout=False)
