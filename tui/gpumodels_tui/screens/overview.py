"""The first screen: the devices, and the models of the chosen one or of all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Final

from rich.text import Text
from textual import events, on
from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Static

from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.units import format_bytes
from gpumodels_tui.screens.device_keys import ALL, device_keys
from gpumodels_tui.screens.model_list_screen import ModelListScreen
from gpumodels_tui.theme import HEADING, MUTED, STYLES, WARNING
from gpumodels_tui.view.device_names import HOST
from gpumodels_tui.view.listing import Entry, entries
from gpumodels_tui.view.process_rows import NOT_ATTACHED
from gpumodels_tui.view.rows import DeviceRow, View
from gpumodels_tui.widgets.cells import shortened
from gpumodels_tui.widgets.device_panel import DevicePanel
from gpumodels_tui.widgets.memory_bar import legend
from gpumodels_tui.widgets.model_table import ModelTable
from gpumodels_tui.widgets.notices import counted, no_match, no_models, nobody_there
from gpumodels_tui.widgets.one_line import OneLine, appear
from gpumodels_tui.widgets.table_messages import CursorMoved

if TYPE_CHECKING:
    from gpumodels_tui.widgets.facts_panel import FactsPanel

LINES_FOR_FACTS: Final = 32
FACTS_SHOWN: Final = 8
NEIGHBOURS: Final = "The device above, below"
AGE_SECONDS: Final = 5.0
"""How often ages are looked at."""


class OverviewScreen(ModelListScreen):
    """Choosing a device is the user's; until then it is the first that has models."""

    DEFAULT_CSS = """
    OverviewScreen #title { margin-top: 1; }
    OverviewScreen #notice { height: 1fr; padding: 1 2; }
    OverviewScreen FactsPanel { height: 8; overflow: hidden; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        *device_keys("overview", "The models of all devices together"),
        Binding("left,h", "neighbour(-1)", "Previous device", show=False, id="overview.previous", tooltip=NEIGHBOURS),
        Binding("right,l", "neighbour(1)", "Next device", show=False, id="overview.next", tooltip=NEIGHBOURS),
        Binding(
            "tab,shift+tab", "pane", "Pane", show=False, id="overview.pane", tooltip="To the devices, and to the models again"
        ),
        Binding(
            "escape", "leave", "All rows", show=False, key_display="Esc", id="overview.leave", tooltip="Show everything again"
        ),
    ]

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """Args:
        clock: Seconds since the epoch, what ages are counted from.
        """
        super().__init__(ModelTable(clock=clock))
        self._chosen: str | None = None
        self._settled = False
        """Whether the choice stands: made by the user, or of a device that had models."""
        self._is_empty = False
        self._place = Widget(id="facts")
        """Kept free for the facts from the first picture on: what moves is drawn again."""
        self._facts: tuple[OneLine, FactsPanel] | None = None
        """Of the model under the cursor; from when there was first room for them."""
        self._offered: tuple[int, bool] | None = None
        """What decides which keys apply: how many devices there are, and whether there is no model."""

    def content(self) -> Iterator[Widget]:
        """Devices above, models below, facts of the model under the cursor where there is room."""
        yield DevicePanel()
        yield OneLine(id="title")
        yield OneLine(id="legend")
        yield self._table
        self._place.styles.height = FACTS_SHOWN + 2
        appear(self._place, self._has_room_for_facts)
        yield self._place

    def on_mount(self) -> None:
        """Ages grow without any news."""
        super().on_mount()
        self.set_interval(AGE_SECONDS, self._redraw_ages)

    def on_resize(self, event: events.Resize) -> None:
        """Facts need lines."""
        super().on_resize(event)
        self._make_room_again()

    @property
    def device(self) -> DeviceRow | None:
        """The chosen one; None where all are."""
        devices = () if self.view is None else self.view.devices
        return next((device for device in devices if device.key == self._chosen), None)

    @property
    def process_key(self) -> str | None:
        """The process of the line under the cursor."""
        return None if self.entry is None else self.entry.process_key

    def show(self, view: View) -> None:
        """Draw what differs from before."""
        self._settle(view)
        device, several = self.device, self._chosen == ALL
        self.query_one(DevicePanel).show(view.devices, None if several else self._chosen)
        shown = view.devices if several else () if device is None else (device,)
        listed = entries(shown, self.order, self.words)
        empty = not listed
        self._say_instead(self._notice(view, device) if empty else None)
        table = self._table
        table.show_devices(several)
        table.mark_sorted(self.order.column, self.order.is_descending)
        table.show(listed)
        if not empty:
            self.keep_keys(False)
        self._show_title(view, shown, listed)
        self._show_facts()
        if (offered := (len(view.devices), empty)) != self._offered:
            # Only then: the footer is composed anew by it.
            self._offered = offered
            self.refresh_bindings()

    def back(self) -> None:
        """There is nothing behind the first screen."""

    def choose(self, device_key: str, row_key: str) -> None:
        """Put the cursor on this model, of this device."""
        self.drop_filter()
        self._choose(device_key)
        self._table.choose((device_key, row_key))
        self._table.focus()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Numbers of devices that aren't there are greyed."""
        if action == "device":
            return True if self._numbered(parameters[0]) is not None else None
        if action == "neighbour":
            return True if self.view is not None and len(self.view.devices) > 1 else None
        if action == "leave":
            return True if self.words else None
        return super().check_action(action, parameters)

    def action_device(self, number: int) -> None:
        """Choose by number."""
        device = self._numbered(number)
        if device is not None:
            self._choose(device.key)

    def action_all_devices(self) -> None:
        """Choose them all."""
        self._choose(ALL)

    def action_neighbour(self, step: int) -> None:
        """Choose the next one, or the one before."""
        if self.view is not None and self.view.devices:
            keys = [device.key for device in self.view.devices]
            here = keys.index(self._chosen) if self._chosen in keys else -1 if step > 0 else len(keys)
            self._choose(keys[min(max(here + step, 0), len(keys) - 1)])

    def action_pane(self) -> None:
        """The other one."""
        panel = self.query_one(DevicePanel)
        (self._table if panel.has_focus else panel).focus()

    @on(DevicePanel.Chosen)
    def _clicked(self, event: DevicePanel.Chosen) -> None:
        self._choose(event.key)

    @on(DevicePanel.Stepped)
    def _stepped(self, event: DevicePanel.Stepped) -> None:
        self.action_neighbour(event.step)

    @on(DevicePanel.Left)
    def _devices_left(self) -> None:
        self._table.focus()

    @on(CursorMoved)
    def _moved(self) -> None:
        self._show_facts()

    def _choose(self, key: str) -> None:
        self._chosen = key
        self._settled = True
        self.filtered()

    def _settle(self, view: View) -> None:
        if self.device is None and self._chosen != ALL:
            self._chosen, self._settled = None, False
        if not self._settled and view.devices:
            with_models = next((device for device in view.devices if device.models), None)
            self._chosen = (with_models or view.devices[0]).key
            self._settled = with_models is not None

    def _numbered(self, number: object) -> DeviceRow | None:
        devices = () if self.view is None else self.view.devices
        return next((device for device in devices if device.number == number), None)

    def _notice(self, view: View, device: DeviceRow | None) -> Text:
        if self.words:
            return no_match(self.words)
        if not view.processes or device is None:
            return nobody_there(view.directories)
        return no_models(device.title, [(other.number, other.title, len(other.models)) for other in view.devices if other.models])

    def _show_title(self, view: View, shown: Sequence[DeviceRow], listed: Sequence[Entry]) -> None:
        title, parts = Text(""), Text("")
        if listed and shown:
            name = shortened(safe_text(shown[0].title), 50) if len(shown) == 1 else "All devices"
            models = sum(entry.row is not None and entry.matches for entry in listed)
            on_bytes = sum(entry.on_bytes for entry in listed if entry.row is not None and entry.matches)
            said = f"  {counted(models, 'model')}, {format_bytes(on_bytes)}"
            title = Text.assemble((name, STYLES[HEADING]), (said, STYLES[MUTED]), no_wrap=True, overflow="ellipsis")
            if self.words:
                title.append(f'  with "{safe_text(self.words)}"; Esc shows all', STYLES[WARNING])
        if listed and len(shown) == 1 and shown[0].parts and shown[0].total_bytes:
            outside = "other use" if shown[0].key == HOST else "outside torch"
            parts = legend(shown[0].parts, shown[0].total_bytes, self.size.width - 4, outside)
        self.query_one("#title", OneLine).say(title)
        below = self.query_one("#legend", OneLine)
        appear(below, len(shown) == 1 and bool(listed))  # also while its parts are not known yet: the list stays where it is
        below.say(parts)

    def _show_facts(self) -> None:
        entry, row = self.entry, self.model
        if self._facts is None:
            return
        from gpumodels_tui.view.model_facts import facts_of, headline
        from gpumodels_tui.view.process_facts import facts_of_unattached

        if row is not None:
            title, facts = headline(row), facts_of(row)
        elif entry is not None and entry.unattached is not None:
            title, facts = f"{safe_text(entry.name, 300)} ({NOT_ATTACHED})", facts_of_unattached(entry.unattached)
        else:
            return
        heading, panel = self._facts
        heading.say(Text(title, STYLES[HEADING], no_wrap=True, overflow="ellipsis"))
        panel.show(facts)

    def _say_instead(self, notice: Text | None) -> None:
        """In the models' place, where there are none to list."""
        table = self._table
        if notice is not None:
            said = next(iter(self.query("#notice").results(Static)), None)
            if said is None:
                said = Static(id="notice")
                self.mount(said, after=table)
            said.update(notice)
        if self._is_empty != (notice is not None):
            self._is_empty = notice is not None
            if self._is_empty:
                self.keep_keys(True)
            appear(table, not self._is_empty)
            for line in self.query("#notice"):
                appear(line, self._is_empty)
            self._make_room_again()

    def _make_room_again(self) -> None:
        if self.is_complete:
            self.call_after_refresh(self.complete)

    async def complete(self) -> None:
        """Facts, where there are lines to spare for them."""
        if self._has_room_for_facts and self._facts is None:
            from gpumodels_tui.widgets.facts_panel import FactsPanel

            self._facts = OneLine(id="facts-title"), FactsPanel(most=FACTS_SHOWN)
            await self._place.mount_all(self._facts)
            self._show_facts()
        appear(self._place, self._has_room_for_facts)

    @property
    def _has_room_for_facts(self) -> bool:
        return not self._is_empty and self.app.size.height >= LINES_FOR_FACTS

    def _redraw_ages(self) -> None:
        if self.is_current and not self.frozen:
            self._table.redraw()
