"""The devices, a line each: what they are on the left, what changes every second on the right.

They are two tables side by side, because the terminal is sent a changed line from its widget's left edge on.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import ClassVar, Final

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.message import Message

from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.units import format_bytes
from gpumodels_tui.theme import ACCENT
from gpumodels_tui.view_model import DeviceRow
from gpumodels_tui.widgets.cells import BLANK, Cell, bar, text, width_of
from gpumodels_tui.widgets.columns import GAP, Column
from gpumodels_tui.widgets.line_table import LineTable

MOST_LINES: Final = 9
"""Where there are more devices, the panel scrolls to the chosen one."""
LONGEST_TITLE: Final = 44


class DeviceTable(LineTable[DeviceRow]):
    """What both halves are: no heading, no cursor, the chosen device marked."""

    def __init__(self) -> None:
        super().__init__((), headed=False, cursor=False)

    def key_of(self, row: DeviceRow) -> Hashable:
        """The device's."""
        return row.key


class DeviceNames(DeviceTable):
    """Number, title and memory bar."""

    TAIL: ClassVar[int] = 1

    def show(self, rows: Sequence[DeviceRow], cursor_key: Hashable | None = None) -> None:
        """The titles take what the longest needs, the bars the rest."""
        longest = min(max((width_of(title_cell(row, LONGEST_TITLE)) for row in rows), default=0), LONGEST_TITLE)
        self.set_columns(
            (
                Column("", number_cell, least=2, right=True, importance=9),
                Column("", title_cell, least=min(longest, 16), most=longest, importance=8, eager=True),
                Column("", bar_cell, least=8, most=200, importance=1),
            )
        )
        super().show(rows, cursor_key)


class DeviceReadings(DeviceTable):
    """Used of total, utilization, temperature, power: as far as they are known."""

    LEAD: ClassVar[int] = 0

    def show(self, rows: Sequence[DeviceRow], cursor_key: Hashable | None = None) -> None:
        """What no device has a value for takes no room."""
        known = [column for column in READINGS if any(column.draw(row, column.least) for row in rows)]
        needed = sum(column.least + GAP for column in known) - GAP + self.TAIL
        if self.styles.width is None or self.styles.width.value != needed:
            self.styles.width = needed
        self.set_columns(known)
        super().show(rows, cursor_key)


class DevicePanel(Horizontal):
    """All devices; the chosen one is marked. A click chooses."""

    DEFAULT_CSS = """
    DevicePanel { height: 1; max-height: 40%; }
    DeviceNames { width: 1fr; height: 100%; }
    DeviceReadings { width: 20; height: 100%; }
    """

    class Chosen(Message):
        """A device was clicked."""

        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    def compose(self) -> ComposeResult:
        """The two halves."""
        yield DeviceNames()
        yield DeviceReadings()

    def show(self, devices: Sequence[DeviceRow], chosen: str | None) -> None:
        """Draw what differs from before."""
        lines = min(max(len(devices), 1), MOST_LINES)
        if self.styles.height is None or self.styles.height.value != lines:
            self.styles.height = lines
        for table in (self.query_one(DeviceNames), self.query_one(DeviceReadings)):
            table.show(devices, chosen)

    @on(LineTable.Opened)
    def _chosen(self, event: LineTable.Opened) -> None:
        event.stop()
        self.post_message(self.Chosen(str(event.key)))


def number_cell(row: DeviceRow, width: int) -> Cell:
    """The key that chooses it; none beyond 9."""
    return text(str(row.number), ACCENT) if 1 <= row.number <= 9 else BLANK


def title_cell(row: DeviceRow, width: int) -> Cell:
    """What it is."""
    return text(safe_text(row.title))


def bar_cell(row: DeviceRow, width: int) -> Cell:
    """Used of total; blank where either is unknown."""
    if row.used_bytes is None or not row.total_bytes:
        return BLANK
    return bar(row.used_bytes / row.total_bytes, width)


def used_cell(row: DeviceRow, width: int) -> Cell:
    """`38.2 GB / 79.6 GB`, or what of it is known."""
    used = None if row.used_bytes is None else format_bytes(row.used_bytes)
    total = None if row.total_bytes is None else format_bytes(row.total_bytes)
    if used is None:
        return text(f"? / {total}") if total else BLANK
    return text(f"{used:>7} / {total:>7}" if total else used)


READINGS: Final[tuple[Column[DeviceRow], ...]] = (
    Column("", used_cell, least=17, right=True, importance=9),
    Column("", lambda row, _: _reading(row.utilization_percent, "%"), least=4, right=True, importance=8),
    Column("", lambda row, _: _reading(row.temperature_celsius, "°C"), least=5, right=True, importance=7),
    Column("", lambda row, _: _reading(row.power_watts, " W"), least=6, right=True, importance=6),
)


def _reading(value: float | None, unit: str) -> Cell:
    return BLANK if value is None else text(f"{value:.0f}{unit}")
