"""The screen of one process: its facts, its memory, its models, and the state of its sidecar."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import ClassVar, Final

from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Static

from gpumodels_shared.records import replace
from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.units import format_bytes
from gpumodels_tui.screens.model_list_screen import ModelListScreen
from gpumodels_tui.theme import HEADING, MUTED, STYLES, WARNING
from gpumodels_tui.view.jobs import RankedJob, job_of
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
"""The least lines for the list of models: its titles and two rows. It has at least a quarter of the screen."""
LINES_AROUND: Final = 2
"""The title at the top, and the keys at the bottom."""
LINES_FOR_BLANKS: Final = 16
"""From this height on there are blank lines around the bars."""


class ProcessScreen(ModelListScreen):
    """Follows its process from view to view; after the process has ended, its last state stays on screen."""

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
        Binding("tab,shift+tab", "pane", "Pane", show=False, id="process.pane", tooltip="Switch between facts and models"),
        Binding("o", "other", "Other", show=False, id="process.other", tooltip="What else is in its memory: asks it, once"),
    ]

    def __init__(self, key: str, clock: Callable[[], float] = time.time) -> None:
        """Args:
        key: `ProcessRow.key`.
        clock: Returns seconds since the epoch.
        """
        super().__init__(ModelTable(clock=clock, of_one_process=True))
        self._key = key
        self._clock = clock
        self._row: ProcessRow | None = None
        self._job: RankedJob | None = None

    @property
    def process(self) -> ProcessRow | None:
        """The process in its last known state."""
        return self._row

    @property
    def process_key(self) -> str:
        """The key of this screen's process."""
        return self._key

    def content(self) -> Iterator[Widget]:
        """The facts, the memory bars and the models."""
        yield Static(id="title")
        yield Static(Text("Ended. This is its last known state; Esc goes back.", STYLES[WARNING]), id="gone")
        yield FactsPanel(most=MOST_FACTS)
        yield Static(id="memory")
        yield self._table
        yield Static(id="no-models")

    def on_resize(self, event: events.Resize) -> None:
        """Fit the bars to the width, and leave enough lines for the models."""
        super().on_resize(event)
        self.set_class(event.size.height >= LINES_FOR_BLANKS, "-roomy")
        self.filtered()

    def show(self, view: View) -> None:
        """Draw the differences from the view shown before."""
        row = next((row for row in view.process_rows if row.key == self._key), None)
        self.set_class(row is None, "-gone")
        if row is not None:
            self._row = row
            self._job = job_of(view.processes, row.key)
            listed = entries(_own_devices(row, view), self.order, self.words)
            self.keep_keys(not listed)
            self.set_class(not listed, "-modelless")
            _update(self.query_one("#no-models", Static), _no_models(row, self.words))
            self.show_columns(listed, several=True)
            self._table.mark_sorted(self.order.column, self.order.is_descending)
            self._table.show(listed)
            self.keep_keys(not listed)
        if self._row is not None:
            _update(
                self.query_one("#title", Static),
                Text(safe_text(self._row.title, 300), STYLES[HEADING], no_wrap=True, overflow="ellipsis"),
            )
            self._show_facts_and_bars(self._row)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Disable the question where there is nobody to answer it."""
        if action == "other":
            return None if self._row is None or self._row.state is None else True
        return super().check_action(action, parameters)

    def action_other(self) -> None:
        """Ask the process what else is in its memory, and say it in a box."""
        from gpumodels_tui.screens.other_box import OtherBox

        if self._row is not None and self._row.state is not None:
            self.app.push_screen(OtherBox(self._row.state))

    def _show_facts_and_bars(self, row: ProcessRow) -> None:
        """Show as many facts and bars as fit above the models."""
        models = max(LINES_FOR_MODELS, self.size.height // 4)
        room = self.size.height - LINES_AROUND - models - (2 if self.has_class("-roomy") else 0)
        panel, facts = self.query_one(FactsPanel), facts_of_process(row, self._clock(), self._job)
        panel.most = min(MOST_FACTS, max(room - LINES_PER_DEVICE, 1))
        panel.show(facts)
        shown = min(len(facts), panel.most)
        bars = _bars(row, self.size.width - 4, max((room - shown) // LINES_PER_DEVICE, 1))
        memory = self.query_one("#memory", Static)
        if memory.content != bars:
            memory.update(bars)

    def action_pane(self) -> None:
        """Move the focus between the facts and the models."""
        facts = self.query_one(FactsPanel)
        (self._table if facts.has_focus else facts).focus()


def _no_models(row: ProcessRow, words: str) -> Text:
    """The reason why the list is empty."""
    if words:
        return Text(f'None of its models has "{safe_text(words)}" in its name, kind or files; Esc shows all.', STYLES[MUTED])
    if row.state is None:
        known = row.without_sidecar is not None and row.without_sidecar.models
        words = "Above stands what is known from outside" if known else "Its models are unknown"
        return Text(f"{words}: no sidecar runs in this process.", STYLES[MUTED])
    return Text("It holds no models now.", STYLES[MUTED])


def _own_devices(process: ProcessRow, view: View) -> list[DeviceRow]:
    """The devices with only this process's models, and with its own bars, to which the marks beside names refer."""
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
    """The name, bar and legend of the `most` devices on which the process has the most bytes."""
    devices = sorted((device for device in row.devices if device.parts), key=lambda device: -_held(device))
    shown, hidden = devices[:most], devices[most:]
    lines = [] if devices else [Text("It holds no memory on any device.", STYLES[MUTED])]
    for device in shown:
        held = _held(device)
        sizes = f"  {format_bytes(held)}" + (f" of {format_bytes(device.total_bytes)}" if device.total_bytes else "")
        lines.append(
            Text.assemble((shortened(safe_text(device.title, 100), width - len(sizes)), STYLES[HEADING]), (sizes, STYLES[MUTED]))
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
