"""The devices, one line each: names and bars on the left, readings that change every second on the right."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import ClassVar, Final

from textual import on
from textual.binding import Binding, BindingType
from textual.message import Message

from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.units import format_bytes
from gpumodels_tui.theme import ACCENT, WARNING
from gpumodels_tui.view.memory_parts import MemoryPart, PartKind
from gpumodels_tui.view.rows import DeviceRow
from gpumodels_tui.widgets.cells import BLANK, Cell, text, width_of
from gpumodels_tui.widgets.columns import GAP, Column
from gpumodels_tui.widgets.line_table import LineTable
from gpumodels_tui.widgets.memory_bar import memory_bar
from gpumodels_tui.widgets.quantities import calm_bytes
from gpumodels_tui.widgets.table_messages import RowOpened

MOST_LINES: Final = 9
"""If there are more devices, the panel scrolls to the chosen one."""
LONGEST_TITLE: Final = 44
NUMBER_WIDTH: Final = 2
SHORTEST_BAR: Final = 8
LEAST_BAR: Final = 16
"""If bars would be shorter than this, titles are shortened."""
NARROW_COLUMNS: Final = 72
"""On narrower screens, used and total bytes are written in less space."""
VENDORS: Final = frozenset({"NVIDIA", "GeForce", "AMD", "Radeon"})
STEPS: Final = "Previous or next device"
ENDS: Final = "First or last device"
DRAWN: Final = (
    "number",
    "title",
    "parts",
    "used_bytes",
    "total_bytes",
    "utilization_percent",
    "temperature_celsius",
    "power_watts",
)
"""What the panel draws of a device."""


class DevicePanel(LineTable[DeviceRow], inherit_bindings=False):
    """All devices, the chosen one marked. A device is chosen by a click or, while the panel has the focus, by the arrow keys."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "step(-1)", "Up", show=False, id="devices.up", tooltip=STEPS),
        Binding("down,j", "step(1)", "Down", show=False, id="devices.down", tooltip=STEPS),
        Binding("home,g", "step(-1000)", "First", show=False, id="devices.first", tooltip=ENDS),
        Binding("end,G", "step(1000)", "Last", show=False, id="devices.last", tooltip=ENDS),
        Binding("enter", "leave", "Models", key_display="Enter", id="devices.leave", tooltip="Go to the chosen device's models"),
    ]

    DEFAULT_CSS = "DevicePanel { height: 1; max-height: 40%; }"

    class Chosen(Message):
        """The user clicked a device."""

        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    class Stepped(Message):
        """The user moved to the device this many lines further down."""

        def __init__(self, step: int) -> None:
            super().__init__()
            self.step = step

    class Left(Message):
        """The user left the panel for the list of models."""

    def __init__(self) -> None:
        super().__init__((), headed=False, cursor=False)
        self.can_focus = True
        self._titles = (0, 0)
        """The width of the longest title, and of the longest short title."""
        self._titles_measured: tuple[str, ...] = ()
        self._known: tuple[bool, ...] = ()
        """Which of `READINGS` are known of some device."""

    def key_of(self, row: DeviceRow) -> Hashable:
        """The device's key."""
        return row.key

    def draws_same(self, before: DeviceRow, after: DeviceRow) -> bool:
        """Whether nothing that is drawn differs."""
        return all(getattr(before, name) == getattr(after, name) for name in DRAWN)

    def columns_for(self, width: int) -> Sequence[Column[DeviceRow]]:
        """The bars take what readings and titles leave; titles are shortened if that would be too little."""
        readings = CLOSE_READINGS if width < NARROW_COLUMNS else READINGS
        known = [column for column, is_known in zip(readings, self._known, strict=False) if is_known]
        room = width - self.LEAD - self.TAIL - NUMBER_WIDTH - 2 * GAP - sum(column.least + GAP for column in known)
        full, short = (min(title, LONGEST_TITLE) for title in self._titles)
        title = full if room - full >= LEAST_BAR else min(short, max(room - SHORTEST_BAR, 1))
        return (
            Column("", number_cell, least=NUMBER_WIDTH, right=True, importance=10),
            Column("", title_cell, least=title, importance=8),
            Column("", bar_cell, least=SHORTEST_BAR, most=width, importance=1),
            *known,
        )

    def show_devices(self, devices: Sequence[DeviceRow], chosen: str | None) -> None:
        """Draw the differences from before; arrange the columns again if titles or readings need another width."""
        lines = min(max(len(devices), 1), MOST_LINES)
        if self.styles.height is None or self.styles.height.value != lines:
            self.styles.height = lines
        titles = tuple(row.title for row in devices)
        known = tuple(any(map(is_known, devices)) for is_known in KNOWN)
        if titles != self._titles_measured or known != self._known:
            full = max((width_of(text(safe_text(row.title))) for row in devices), default=0)
            short = max((width_of(text(short_title(row))) for row in devices), default=0)
            self._titles_measured, self._titles, self._known = titles, (full, short), known
            self.rearrange()
        self.mark_chosen(chosen is not None)
        self.show(devices, chosen)

    def action_step(self, step: int) -> None:
        """Move to the next or the previous device."""
        self.post_message(self.Stepped(step))

    def action_leave(self) -> None:
        """Go to the list of models."""
        self.post_message(self.Left())

    def on_focus(self) -> None:
        """Highlight the chosen line."""
        self.light(True)

    def on_blur(self) -> None:
        """Remove the highlight from the chosen line."""
        self.light(False)

    @on(RowOpened)
    def _chosen(self, event: RowOpened) -> None:
        event.stop()
        self.post_message(self.Chosen(str(event.key)))


def number_cell(row: DeviceRow, width: int) -> Cell:
    """The digit key of the device; blank beyond 9."""
    return text(str(row.number), ACCENT) if 1 <= row.number <= 9 else BLANK


def title_cell(row: DeviceRow, width: int) -> Cell:
    """The device's title; without the maker's name if it doesn't fit."""
    full = text(safe_text(row.title))
    return full if width_of(full) <= width else text(short_title(row))


def short_title(row: DeviceRow) -> str:
    """The title without the maker's names: `GPU 0 H100 80GB HBM3`."""
    words = safe_text(row.title).split()
    return " ".join(word for word in words if word not in VENDORS) if words[:1] == ["GPU"] else " ".join(words)


def bar_cell(row: DeviceRow, width: int) -> Cell:
    """The bar of the device's parts, or of its used bytes if the parts aren't known.

    Blank if nothing is known, and for a GPU that is lost or divided into slices: what was on it isn't known, or stands with them.
    """
    if row.is_lost or row.is_divided or (not row.parts and row.used_bytes is None):
        return BLANK
    used = (MemoryPart(PartKind.OUTSIDE, row.used_bytes),) if row.used_bytes else ()
    return memory_bar(row.parts or used, row.total_bytes, width)


def used_cell(row: DeviceRow, width: int) -> Cell:
    """Used and total bytes as far as they are known: `38.2 GB / 79.6 GB`; of a GPU that is lost, that it is."""
    if row.is_lost:
        return text(row.state, WARNING)
    used = None if row.used_bytes is None else format_bytes(row.used_bytes)
    total = None if row.total_bytes is None else format_bytes(row.total_bytes)
    if used is None:
        return text(f"? / {total}") if total else BLANK
    return text(f"{used:>7} / {total:>7}" if total else used)


def close_used_cell(row: DeviceRow, width: int) -> Cell:
    """The same in less space: `38.2/79.6 GB`, or `512 MB/80 GB` if the units differ."""
    if row.is_lost or row.used_bytes is None or row.total_bytes is None:
        return used_cell(row, width)
    used, unit = format_bytes(row.used_bytes).split()
    total, total_unit = format_bytes(row.total_bytes).split()
    if unit == total_unit:
        return text(f"{used}/{total} {unit}")
    return text(f"{calm_bytes(row.used_bytes)}/{calm_bytes(row.total_bytes)}")


READINGS: Final[tuple[Column[DeviceRow], ...]] = (
    Column("", used_cell, least=17, right=True, importance=9),
    Column("", lambda row, _: _reading(row.utilization_percent, "%"), least=4, right=True, importance=8),
    Column("", lambda row, _: _reading(row.temperature_celsius, "°C"), least=5, right=True, importance=7),
    Column("", lambda row, _: _reading(row.power_watts, " W"), least=6, right=True, importance=6),
)

KNOWN: Final[tuple[Callable[[DeviceRow], bool], ...]] = (
    lambda row: row.is_lost or row.used_bytes is not None or bool(row.total_bytes),
    lambda row: row.utilization_percent is not None,
    lambda row: row.temperature_celsius is not None,
    lambda row: row.power_watts is not None,
)
"""Whether each of `READINGS` is known of a device."""

CLOSE_READINGS: Final = (Column("", close_used_cell, least=14, right=True, importance=9), *READINGS[1:])


def _reading(value: float | None, unit: str) -> Cell:
    return BLANK if value is None else text(f"{value:.0f}{unit}")
