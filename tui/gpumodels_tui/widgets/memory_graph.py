"""Graphs of the memory used over the last minute, ten minutes or hour, a few lines per device."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Final

from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.units import format_bytes
from gpumodels_tui.theme import BAR, HEADING, MUTED, STYLES, TRACK, WARNING
from gpumodels_tui.view.device_names import device_in_words
from gpumodels_tui.view.events import EventKind, History
from gpumodels_tui.view.recorder import KEPT_SECONDS
from gpumodels_tui.view.rows import DeviceRow
from gpumodels_tui.widgets.cells import Cell, fitted, shortened, text
from gpumodels_tui.widgets.lines import segments_of
from gpumodels_tui.widgets.notices import counted

EIGHTHS: Final = " ▁▂▃▄▅▆▇█"
NOTHING: Final = "⋅"
"""Not the middle dot, which marks other tensors in bars: in ASCII the two must be different characters."""
RAN_OUT: Final = "!"
LABEL_WIDTH: Final = 30
MOST_LINES: Final = 6
MOST_LINES_OF_ONE: Final = 10
AXIS_LINES: Final = 1
SPANS: Final = (60, 600, KEPT_SECONDS)
"""The times that graphs can show, in seconds."""
LONGEST_GAP_SECONDS: Final = 120
"""A value counts until the next one, if that isn't later; the viewer may have been suspended meanwhile."""
COLUMNS_FOR_HALF: Final = 30
NOW: Final = "now"
LEAST_GRAPH: Final = 20


class MemoryGraph(Widget):
    """Graphs of one or more devices; a line is drawn again only if it changes."""

    DEFAULT_CSS = "MemoryGraph { height: 2; padding: 0 2; }"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._lines: list[Cell] = []
        self._shown: tuple[Sequence[DeviceRow], History, int, int] | None = None
        self._each = 1
        """The number of lines of one graph."""
        self._hidden = 0
        """The number of devices that don't fit."""

    def show(self, devices: Sequence[DeviceRow], history: History, now: int, span: int, lines: int) -> None:
        """Draw the differences from before.

        Args:
            devices: Each gets one graph, as far as they fit.
            history: The samples, and the out-of-memory events.
            now: Seconds since the epoch.
            span: The seconds before that which are shown.
            lines: How many lines the graphs may take together.
        """
        fitting = list(devices) if len(devices) <= lines else list(devices)[: max(lines - 1, 1)]
        most = MOST_LINES if len(devices) > 1 else MOST_LINES_OF_ONE
        self._each = min(max(lines // max(len(fitting), 1), 1), most)
        self._hidden = len(devices) - len(fitting)
        wanted = self._each * len(fitting) + (1 if self._hidden else 0) + AXIS_LINES
        if self.styles.height is None or self.styles.height.value != wanted:
            self.styles.height = wanted
        self._shown = (fitting, history, now, span)
        self._draw()

    def on_resize(self) -> None:
        """Draw the graphs in the new width."""
        if self._shown is not None:
            self._draw()

    def render_line(self, y: int) -> Strip:
        """Draw one line."""
        cell = self._lines[y] if y < len(self._lines) else ()
        strip = Strip(segments_of(cell)).adjust_cell_length(self.size.width)
        return strip if STYLES.theme.theme.ansi else strip.apply_style(self.rich_style)

    def _draw(self) -> None:
        assert self._shown is not None
        devices, history, now, span = self._shown
        width = max(self.size.width - LABEL_WIDTH - 1, LEAST_GRAPH)
        lines = [line for device in devices for line in _graph(device, history, (now, span), width, self._each)]
        if self._hidden:
            lines.append(text(f"and {counted(self._hidden, 'more device')}; 1-9 shows one", MUTED))
        lines.append((*fitted((), LABEL_WIDTH), *text(" "), *_axis(width, span)))
        for y in range(max(len(lines), len(self._lines))):
            before = self._lines[y] if y < len(self._lines) else None
            if y >= len(lines) or lines[y] != before:
                self.refresh(Region(0, y, self.size.width, 1))
        self._lines = lines


def span_holding(seconds: int) -> int:
    """The shortest time that graphs can show and that is longer than this, else the longest."""
    return next((span for span in SPANS if seconds < span), SPANS[-1])


def span_in_words(seconds: int) -> str:
    """`1 h`, `10 min`, `30 s`."""
    if seconds % 3600 == 0:
        return f"{seconds // 3600} h"
    return f"{seconds // 60} min" if seconds % 60 == 0 else f"{seconds} s"


def _graph(device: DeviceRow, history: History, time_shown: tuple[int, int], width: int, height: int) -> list[Cell]:
    now, span = time_shown
    columns = columns_of(history.samples.get(device.key, ()), now, width, span)
    ran_out = {
        column_at(event.at_ns // 10**9, now, width, span)
        for event in history.events
        if event.kind is EventKind.OUT_OF_MEMORY and event.is_on(device.key, device.label)
    }
    most = max((used for used in (*columns, device.used_bytes) if used is not None), default=0)
    scale = max(device.total_bytes or 0, most, 1)
    labels: list[Cell] = [
        text(shortened(safe_text(device.title, 100), LABEL_WIDTH), HEADING),
        text(f"now {_bytes(device.used_bytes)} of {_bytes(device.total_bytes)}", MUTED),
        text(f"peak {format_bytes(most)}", MUTED),
    ]
    if height == 1:
        name = device_in_words(safe_text(device.label, 12))
        labels = [(*text(name, HEADING), *text(f"  {_bytes(device.used_bytes)}, peak {format_bytes(most)}", MUTED))]
    return [
        (
            *fitted(labels[y] if y < len(labels) else (), LABEL_WIDTH),
            *text(" "),
            *_row(columns, scale, height - 1 - y, height, ran_out if y == 0 else frozenset()),
        )
        for y in range(height)
    ]


def _axis(width: int, span: int) -> Cell:
    """The line of times below the graphs."""
    half = span_in_words(span // 2)
    marks = [(f"{span_in_words(span)} ago", 0), (NOW, width - len(NOW))]
    if width >= COLUMNS_FOR_HALF:
        marks.append((half, (width - len(half)) // 2))
    line = [" "] * width
    for words, at in marks:
        line[at : at + len(words)] = words
    return text("".join(line), MUTED)


def _row(columns: Sequence[int | None], scale: int, from_below: int, height: int, ran_out: Set[int]) -> Cell:
    """One line of a graph, drawn in eighths of a line."""
    pieces: list[tuple[str, str]] = []
    for column, used in enumerate(columns):
        if column in ran_out:
            mark, role = RAN_OUT, WARNING
        elif used is None:
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


def column_at(at: int, now: int, width: int, span: int = KEPT_SECONDS) -> int:
    """The column of `columns_of` for a time; negative or too large if there is none."""
    return at * width // span - now * width // span + width - 1


def columns_of(samples: Sequence[tuple[int, int | None]], now: int, width: int, span: int = KEPT_SECONDS) -> list[int | None]:
    """The last `span` seconds in `width` columns: the most bytes used in each; None for no data.

    Columns begin at whole multiples of their length in seconds, so that the graph doesn't move until a column is complete.
    """
    columns: list[int | None] = [None] * width
    before: tuple[int, int, int | None] | None = None
    for at, used in samples:
        position = column_at(at, now, width, span)
        if before is not None and before[2] is not None and at - before[0] <= LONGEST_GAP_SECONDS:
            for between in range(max(before[1] + 1, 0), min(position, width)):
                columns[between] = before[2]  # a column shorter than the time between samples
        if 0 <= position < width and used is not None:
            columns[position] = max(columns[position] or 0, used)
        before = (at, position, used)
    return columns
