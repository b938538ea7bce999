"""Used memory over the last hour, a few lines per device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.units import format_bytes
from gpumodels_tui.history import History, columns_of
from gpumodels_tui.theme import BAR, HEADING, MUTED, STYLES, TRACK
from gpumodels_tui.view_model import DeviceRow
from gpumodels_tui.widgets.cells import Cell, fitted, text
from gpumodels_tui.widgets.lines import segments_of

EIGHTHS: Final = " ▁▂▃▄▅▆▇█"
NOTHING: Final = "·"
LABEL_WIDTH: Final = 27
MOST_LINES: Final = 6
LEAST_GRAPH: Final = 20


class MemoryGraph(Widget):
    """A line is sent again only when it looks different."""

    DEFAULT_CSS = "MemoryGraph { height: 1; padding: 0 2; }"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._lines: list[Cell] = []
        self._shown: tuple[Sequence[DeviceRow], History, int] | None = None

    def show(self, devices: Sequence[DeviceRow], history: History, now: int, lines: int) -> None:
        """Draw what differs from before.

        Args:
            devices: One graph each, as far as there is room.
            history: Its samples.
            now: Seconds since the epoch.
            lines: How many the graphs may take together.
        """
        fitting = list(devices)[: max(lines, 1)]
        each = min(max(lines // max(len(fitting), 1), 1), MOST_LINES)
        wanted = max(each * len(fitting), 1)
        if self.styles.height is None or self.styles.height.value != wanted:
            self.styles.height = wanted
        self._shown = (fitting, history, now)
        self._draw(each)

    def on_resize(self) -> None:
        """Other columns."""
        if self._shown is not None:
            devices, _, _ = self._shown
            self._draw(max(self.size.height // max(len(devices), 1), 1))

    def render_line(self, y: int) -> Strip:
        """One line for the terminal."""
        cell = self._lines[y] if y < len(self._lines) else ()
        strip = Strip(segments_of(cell)).adjust_cell_length(self.size.width)
        return strip if STYLES.look.theme.ansi else strip.apply_style(self.rich_style)

    def _draw(self, each: int) -> None:
        assert self._shown is not None
        devices, history, now = self._shown
        width = max(self.size.width - LABEL_WIDTH - 1, LEAST_GRAPH)
        lines = [line for device in devices for line in _graph(device, history.samples.get(device.key, ()), now, width, each)]
        for y in range(max(len(lines), len(self._lines))):
            before = self._lines[y] if y < len(self._lines) else None
            if y >= len(lines) or lines[y] != before:
                self.refresh(Region(0, y, self.size.width, 1))
        self._lines = lines


def _graph(device: DeviceRow, samples: Sequence[tuple[int, int]], now: int, width: int, height: int) -> list[Cell]:
    columns = columns_of(samples, now, width)
    most = max((used for used in (*columns, device.used_bytes) if used is not None), default=0)
    scale = max(device.total_bytes or 0, most, 1)
    labels: list[Cell] = [
        text(safe_text(device.title, 100), HEADING),
        text(f"now {_bytes(device.used_bytes)} of {_bytes(device.total_bytes)}", MUTED),
        text(f"most {format_bytes(most)}", MUTED),
    ]
    if height == 1:
        labels = [(*text(safe_text(device.label, 12), HEADING), *text(f" most {format_bytes(most)}", MUTED))]
    return [
        (*fitted(labels[y] if y < len(labels) else (), LABEL_WIDTH), *text(" "), *_row(columns, scale, height - 1 - y, height))
        for y in range(height)
    ]


def _row(columns: Sequence[int | None], scale: int, from_below: int, height: int) -> Cell:
    """One line of a graph: eighths of a line in each column."""
    pieces: list[tuple[str, str]] = []
    for used in columns:
        if used is None:
            mark, role = (NOTHING, TRACK) if from_below == 0 else (" ", BAR)
        else:
            eighths = round(used / scale * height * 8) - from_below * 8
            least = 1 if used and from_below == 0 else 0
            mark, role = EIGHTHS[min(max(eighths, least), 8)], BAR
        if pieces and pieces[-1][1] == role:
            pieces[-1] = (pieces[-1][0] + mark, role)
        else:
            pieces.append((mark, role))
    return tuple(pieces)


def _bytes(count: int | None) -> str:
    return "?" if count is None else format_bytes(count)
