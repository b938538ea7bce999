"""The first screen: the devices, and the models of the chosen one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import ClassVar, Final

from rich.text import Text
from textual import events, on
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.units import format_bytes
from gpumodels_tui.model_facts import facts_of, headline
from gpumodels_tui.screens.view_screen import ViewScreen
from gpumodels_tui.theme import HEADING, MUTED, STYLES
from gpumodels_tui.view_model import DeviceRow, ModelRow, View
from gpumodels_tui.widgets.cells import shortened
from gpumodels_tui.widgets.device_panel import DevicePanel
from gpumodels_tui.widgets.facts_panel import FactsPanel
from gpumodels_tui.widgets.line_table import LineTable
from gpumodels_tui.widgets.model_table import ModelTable
from gpumodels_tui.widgets.notices import counted, no_models, nobody_there

LINES_FOR_FACTS: Final = 32
FACTS_SHOWN: Final = 8
AGE_SECONDS: Final = 1.0
"""How often ages are looked at."""


def _device_key(number: int) -> Binding:
    """One line of the footer and of the help speaks for all nine."""
    if number > 1:
        return Binding(str(number), f"device({number})", "Device", show=False, id=f"overview.device_{number}")
    return Binding("1", "device(1)", "Device", key_display="1-9", id="overview.device_1", tooltip="Choose a device by its number")


class OverviewScreen(ViewScreen):
    """Choosing a device is the user's; until then it is the first that has models."""

    DEFAULT_CSS = """
    OverviewScreen #title { height: 1; padding: 0 2; margin-top: 1; }
    OverviewScreen ModelTable { height: 1fr; }
    OverviewScreen #notice { height: 1fr; padding: 1 2; display: none; }
    OverviewScreen.-empty ModelTable { display: none; }
    OverviewScreen.-empty > #notice { display: block; }
    OverviewScreen #facts-title { height: 1; padding: 0 2; display: none; }
    OverviewScreen FactsPanel { height: 8; display: none; margin-bottom: 1; overflow: hidden; }
    OverviewScreen.-tall > #facts-title, OverviewScreen.-tall > FactsPanel { display: block; }
    OverviewScreen.-tall.-empty > #facts-title, OverviewScreen.-tall.-empty > FactsPanel { display: none; }
    OverviewScreen.-no-room > #facts-title, OverviewScreen.-no-room > FactsPanel { display: none; }
    OverviewScreen.-no-room > #notice { display: none; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        *(_device_key(number) for number in range(1, 10)),
        Binding("left,h", "neighbour(-1)", "Previous device", show=False, id="overview.previous", tooltip="The device above"),
        Binding("right,l", "neighbour(1)", "Next device", show=False, id="overview.next", tooltip="The device below"),
    ]

    class ModelOpened(Message):
        """A model's layers are asked for."""

        def __init__(self, device_key: str, model_key: str) -> None:
            super().__init__()
            self.device_key = device_key
            self.model_key = model_key

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """Args:
        clock: Seconds since the epoch, what ages are counted from.
        """
        super().__init__()
        self._clock = clock
        self._chosen: str | None = None
        self._settled = False
        """Whether the choice stands: made by the user, or of a device that had models."""
        self._offered: tuple[int, bool] | None = None
        """What decides which keys apply: how many devices there are, and whether there is no model."""

    def content(self) -> Iterator[Widget]:
        """Devices above, models below, facts of the model under the cursor where there is room."""
        yield DevicePanel()
        yield Static(id="title")
        yield ModelTable(clock=self._clock)
        yield Static(id="notice")
        yield Static(id="facts-title")
        yield FactsPanel(most=FACTS_SHOWN)

    def on_mount(self) -> None:
        """Ages grow without any news."""
        super().on_mount()
        self.set_interval(AGE_SECONDS, self._redraw_ages)

    def on_resize(self, event: events.Resize) -> None:
        """Facts need lines."""
        super().on_resize(event)
        self.set_class(event.size.height >= LINES_FOR_FACTS, "-tall")

    @property
    def device(self) -> DeviceRow | None:
        """The chosen one."""
        devices = () if self.view is None else self.view.devices
        return next((device for device in devices if device.key == self._chosen), None)

    @property
    def model(self) -> ModelRow | None:
        """The one under the cursor."""
        return self.query_one(ModelTable).cursor_row

    def show(self, view: View) -> None:
        """Draw what differs from before."""
        self._settle(view)
        device = self.device
        self.query_one(DevicePanel).show(view.devices, self._chosen)
        models = () if device is None else device.models
        empty = not models
        if empty:
            self.query_one("#notice", Static).update(self._notice(view, device))
        self.set_class(empty, "-empty")
        self.query_one(ModelTable).show(models)
        self._show_title(device if view.processes else None)
        self._show_facts()
        if (offered := (len(view.devices), empty)) != self._offered:
            # Only then: the footer is composed anew by it.
            self._offered = offered
            self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Numbers of devices that aren't there are greyed."""
        if action == "device":
            return True if self._numbered(parameters[0]) is not None else None
        if action == "neighbour":
            return True if self.view is not None and len(self.view.devices) > 1 else None
        return super().check_action(action, parameters)

    def action_device(self, number: int) -> None:
        """Choose by number."""
        device = self._numbered(number)
        if device is not None:
            self._choose(device.key)

    def action_neighbour(self, step: int) -> None:
        """Choose the next one, or the one before."""
        if self.view is not None and self.view.devices:
            keys = [device.key for device in self.view.devices]
            here = keys.index(self._chosen) if self._chosen in keys else 0
            self._choose(keys[min(max(here + step, 0), len(keys) - 1)])

    @on(DevicePanel.Chosen)
    def _clicked(self, event: DevicePanel.Chosen) -> None:
        self._choose(event.key)

    @on(LineTable.Moved)
    def _moved(self) -> None:
        self._show_facts()

    @on(LineTable.Opened)
    def _opened(self, event: LineTable.Opened) -> None:
        if self._chosen is not None and isinstance(event.key, str):
            self.post_message(self.ModelOpened(self._chosen, event.key))

    def _choose(self, key: str) -> None:
        self._chosen = key
        self._settled = True
        if self.view is not None:
            self.show(self.view)

    def _settle(self, view: View) -> None:
        if self.device is None:
            self._chosen, self._settled = None, False
        if not self._settled and view.devices:
            with_models = next((device for device in view.devices if device.models), None)
            self._chosen = (with_models or view.devices[0]).key
            self._settled = with_models is not None

    def _numbered(self, number: object) -> DeviceRow | None:
        devices = () if self.view is None else self.view.devices
        return next((device for device in devices if device.number == number), None)

    def _notice(self, view: View, device: DeviceRow | None) -> Text:
        if not view.processes or device is None:
            return nobody_there(view.directories)
        return no_models(device.title, [(other.number, other.title, len(other.models)) for other in view.devices if other.models])

    def _show_title(self, device: DeviceRow | None) -> None:
        title = Text("")
        if device is not None and device.models:
            on_bytes = sum(row.on_bytes for row in device.models)
            title = Text.assemble(
                (shortened(safe_text(device.title), 50), STYLES[HEADING]),
                (f"  {counted(len(device.models), 'model')}, {format_bytes(on_bytes)}", STYLES[MUTED]),
            )
        _update(self.query_one("#title", Static), title)

    def _show_facts(self) -> None:
        row = self.model
        if row is not None:
            _update(
                self.query_one("#facts-title", Static), Text(headline(row), STYLES[HEADING], no_wrap=True, overflow="ellipsis")
            )
            self.query_one(FactsPanel).show(facts_of(row))

    def _redraw_ages(self) -> None:
        if self.is_current:
            self.query_one(ModelTable).redraw()


def _update(static: Static, text: Text) -> None:
    """One line of text; equal text costs nothing."""
    if static.content != text:
        static.update(text, layout=False)
