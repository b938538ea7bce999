"""The first screen: the devices, and the models of one or all of them."""

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
from gpumodels_tui.widgets.notices import counted, no_match, no_models, no_processes, nothing_left
from gpumodels_tui.widgets.one_line import OneLine, appear
from gpumodels_tui.widgets.table_messages import CursorMoved

if TYPE_CHECKING:
    from gpumodels_tui.widgets.facts_panel import FactsPanel

LINES_FOR_FACTS: Final = 32
FACTS_SHOWN: Final = 8
NEIGHBOURS: Final = "Previous or next device"
AGE_SECONDS: Final = 5.0
"""How often ages are drawn again."""


class OverviewScreen(ModelListScreen):
    """Shows the first device with models until the user chooses another one."""

    DEFAULT_CSS = """
    OverviewScreen #title { margin-top: 1; }
    OverviewScreen #notice { height: 1fr; padding: 1 2; }
    OverviewScreen FactsPanel { height: 8; overflow: hidden; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        *device_keys("overview", "The models of all devices"),
        Binding("left", "neighbour(-1)", "Previous device", show=False, id="overview.previous", tooltip=NEIGHBOURS),
        Binding("right,l", "neighbour(1)", "Next device", show=False, id="overview.next", tooltip=NEIGHBOURS),
        Binding("tab,shift+tab", "pane", "Pane", show=False, id="overview.pane", tooltip="Switch between devices and models"),
        Binding("escape", "leave", "All rows", show=False, key_display="Esc", id="overview.leave", tooltip="Clear the filter"),
    ]

    is_filtered: ClassVar[bool] = True

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """Args:
        clock: Returns seconds since the epoch; used for ages.
        """
        super().__init__(ModelTable(clock=clock))
        self._chosen: str | None = None
        self._settled = False
        """Whether the choice is final: made by the user, or of a device that had models."""
        self._is_empty = False
        self._facts_area = Widget(id="facts")
        """Reserved for the facts from the first drawing on, so that nothing moves and is drawn again."""
        self._facts: tuple[OneLine, FactsPanel] | None = None
        """The title and facts of the model under the cursor; created once there is room for them."""
        self._listed: Sequence[Entry] = ()
        self._drawn_from: tuple[object, ...] = ()
        """What the list was made from; while it stays the same, only the devices and the legend are drawn."""
        self._key_state: tuple[int, bool] | None = None
        """Determines which keys are enabled: the number of devices, and whether the list is empty."""

    def content(self) -> Iterator[Widget]:
        """The devices, the models, and, if there is room, the facts of the model under the cursor."""
        yield DevicePanel()
        yield OneLine(id="title")
        yield OneLine(id="legend")
        yield self._table
        self._facts_area.styles.height = FACTS_SHOWN + 2
        appear(self._facts_area, self._has_room_for_facts)
        yield self._facts_area

    def on_mount(self) -> None:
        """Start drawing ages at intervals, since they change without a new view."""
        super().on_mount()
        self.set_interval(AGE_SECONDS, self._redraw_ages)

    def on_resize(self, event: events.Resize) -> None:
        """Show or hide the facts according to the screen's height."""
        super().on_resize(event)
        self._update_facts_area()

    @property
    def device(self) -> DeviceRow | None:
        """The chosen device; None if all are chosen."""
        devices = () if self.view is None else self.view.devices
        return next((device for device in devices if device.key == self._chosen), None)

    @property
    def process_key(self) -> str | None:
        """The process of the row under the cursor."""
        return None if self.entry is None else self.entry.process_key

    def show(self, view: View) -> None:
        """Draw the differences from the view shown before."""
        self._ensure_choice(view)
        device, several = self.device, self._chosen == ALL
        self.query_one(DevicePanel).show_devices(view.devices, None if several else self._chosen)
        shown = view.devices if several else () if device is None else (device,)
        drawn_from = (several, self.order, self.words, self.unfolded, self.size.width, *map(_listed_of, shown))
        if drawn_from != self._drawn_from or not self._listed:
            self._drawn_from = drawn_from
            self._show_list(view, shown, several)
        self._show_legend(shown)
        empty = not self._listed
        if (key_state := (len(view.devices), empty)) != self._key_state:
            # Only if needed, since it composes the footer again.
            self._key_state = key_state
            self.refresh_bindings()

    def _show_list(self, view: View, shown: Sequence[DeviceRow], several: bool) -> None:
        """Draw the list, its title, and the facts of the model under the cursor."""
        listed = self._listed = entries(shown, self.order, self.words, self.unfolded)
        self._show_notice(None if listed else self._notice(view, self.device))
        table = self._table
        self.show_columns(listed, several)
        table.mark_sorted(self.order.column, self.order.is_descending)
        table.show(listed)
        if listed:
            self.keep_keys(False)
        self._show_title(shown, listed)
        self._show_facts()

    def back(self) -> None:
        """Do nothing: there is no screen to go back to."""

    def choose(self, device_key: str, row_key: str) -> None:
        """Choose the device, and put the cursor on the model."""
        self.drop_filter()
        self._choose(device_key)
        key = (device_key, row_key)
        self.unfolded |= {entry.key for entry in self._listed if entry.group is not None and key in entry.group.members}
        self.filtered()
        self._table.choose(key)
        self._table.focus()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Disable the numbers of devices that don't exist, and keys that have no effect at present."""
        if action == "device":
            return True if self._device_numbered(parameters[0]) is not None else None
        if action == "neighbour":
            return True if self.view is not None and len(self.view.devices) > 1 else None
        if action == "leave":
            return True if self.words else None
        return super().check_action(action, parameters)

    def action_device(self, number: int) -> None:
        """Choose the device of this number."""
        device = self._device_numbered(number)
        if device is not None:
            self._choose(device.key)

    def action_all_devices(self) -> None:
        """Show the models of all devices."""
        self._choose(ALL)

    def action_neighbour(self, step: int) -> None:
        """Choose the next or the previous device."""
        if self.view is not None and self.view.devices:
            keys = [device.key for device in self.view.devices]
            position = keys.index(self._chosen) if self._chosen in keys else -1 if step > 0 else len(keys)
            self._choose(keys[min(max(position + step, 0), len(keys) - 1)])

    def action_pane(self) -> None:
        """Move the focus between the devices and the models."""
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

    def _ensure_choice(self, view: View) -> None:
        if self.device is None and self._chosen != ALL:
            self._chosen, self._settled = None, False
        if not self._settled and view.devices:
            with_models = next((device for device in view.devices if device.models), None)
            self._chosen = (with_models or view.devices[0]).key
            self._settled = with_models is not None

    def _device_numbered(self, number: object) -> DeviceRow | None:
        devices = () if self.view is None else self.view.devices
        return next((device for device in devices if device.number == number), None)

    def _notice(self, view: View, device: DeviceRow | None) -> Text:
        if self.words:
            return no_match(self.words)
        if view.filtered_by:
            return nothing_left(view.filtered_by, None if device is None else device.title)
        if not view.processes or device is None:
            return no_processes(view.directories)
        elsewhere = [(other.number, other.title, len(other.models)) for other in view.devices if other.models]
        return no_models(device.title, elsewhere, device.state)

    def _show_title(self, shown: Sequence[DeviceRow], listed: Sequence[Entry]) -> None:
        title = Text("")
        if listed and shown:
            name = shortened(safe_text(shown[0].title), 50) if len(shown) == 1 else "All devices"
            models = [entry for entry in listed if entry.unattached is None and entry.rank is None and entry.matches]
            totals = f"  {counted(len(models), 'model')}, {format_bytes(sum(entry.on_bytes for entry in models))}"
            title = Text.assemble((name, STYLES[HEADING]), (totals, STYLES[MUTED]), no_wrap=True, overflow="ellipsis")
            if len(shown) == 1 and shown[0].state:
                title.append(f"  {shown[0].state}", STYLES[WARNING if shown[0].is_lost else MUTED])
            if self.words:
                title.append(f'  matching "{safe_text(self.words)}"; Esc shows all', STYLES[WARNING])
        self.query_one("#title", OneLine).say(title)

    def _show_legend(self, shown: Sequence[DeviceRow]) -> None:
        parts = Text("")
        if self._listed and len(shown) == 1 and shown[0].parts and shown[0].total_bytes:
            outside = "other use" if shown[0].key == HOST else "outside torch"
            parts = legend(shown[0].parts, shown[0].total_bytes if shown[0].rest_is_free else None, self.size.width - 4, outside)
        below = self.query_one("#legend", OneLine)
        appear(below, len(shown) == 1 and bool(self._listed))  # even before its parts are known, so that the list doesn't move
        below.say(parts)

    def _show_facts(self) -> None:
        entry, row = self.entry, self.model
        if self._facts is None:
            return
        from gpumodels_tui.view.model_facts import facts_of, headline
        from gpumodels_tui.view.process_facts import facts_of_unattached
        from gpumodels_tui.view.rank_groups import facts_of_group, headline_of_group

        if row is not None:
            title, facts = headline(row), facts_of(row)
        elif entry is not None and entry.unattached is not None:
            title, facts = f"{safe_text(entry.name, 300)} ({NOT_ATTACHED})", facts_of_unattached(entry.unattached)
        elif entry is not None and entry.group is not None:
            title = headline_of_group(entry.group)
            facts = facts_of_group(entry.group)
        else:
            return
        heading, panel = self._facts
        heading.say(Text(title, STYLES[HEADING], no_wrap=True, overflow="ellipsis"))
        panel.show(facts)

    def _show_notice(self, notice: Text | None) -> None:
        """Show a notice instead of the list of models; None shows the list again."""
        table = self._table
        if notice is not None:
            widget = next(iter(self.query("#notice").results(Static)), None)
            if widget is None:
                widget = Static(id="notice")
                self.mount(widget, after=table)
            widget.update(notice)
        if self._is_empty != (notice is not None):
            self._is_empty = notice is not None
            if self._is_empty:
                self.keep_keys(True)
            appear(table, not self._is_empty)
            for line in self.query("#notice"):
                appear(line, self._is_empty)
            self._update_facts_area()

    def _update_facts_area(self) -> None:
        if self.is_complete:
            self.call_after_refresh(self.complete)

    async def complete(self) -> None:
        """Show the facts if there are enough lines for them, else hide them."""
        if self._has_room_for_facts and self._facts is None:
            from gpumodels_tui.widgets.facts_panel import FactsPanel

            self._facts = OneLine(id="facts-title"), FactsPanel(most=FACTS_SHOWN)
            await self._facts_area.mount_all(self._facts)
            self._show_facts()
        appear(self._facts_area, self._has_room_for_facts)

    @property
    def _has_room_for_facts(self) -> bool:
        return not self._is_empty and self.app.size.height >= LINES_FOR_FACTS

    def _redraw_ages(self) -> None:
        if self.is_current and not self.frozen:
            self._table.redraw_ages()


def _listed_of(device: DeviceRow) -> tuple[object, ...]:
    """What the list draws of a device: not its readings, which change every second."""
    marks = [(part.key, part.kind) for part in device.parts]
    return device.key, device.number, device.title, device.label, device.total_bytes, device.models, device.unattached, marks
