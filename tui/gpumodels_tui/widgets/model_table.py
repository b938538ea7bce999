"""The table of models of one or more devices."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import ClassVar, Final

from textual.binding import Binding, BindingType

from gpumodels_shared.liveness import Liveness
from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.units import format_age, format_bytes
from gpumodels_tui.theme import ACCENT, BAR, MUTED, OFF, OFF_FILL, WARNING
from gpumodels_tui.view.jobs import EVEN_WORD, imbalance_in_words
from gpumodels_tui.view.listing import Entry
from gpumodels_tui.view.memory_parts import PartKind
from gpumodels_tui.view.process_rows import SHORTER
from gpumodels_tui.view.rank_groups import RankGroup
from gpumodels_tui.view.rows import DeviceRow
from gpumodels_tui.widgets.cells import BLANK, Cell, fits, shortened, text, width_of
from gpumodels_tui.widgets.columns import Column
from gpumodels_tui.widgets.line_table import LineTable
from gpumodels_tui.widgets.memory_bar import MARKS, mark_of
from gpumodels_tui.widgets.quantities import bytes_cell, calm_age, dtype_in, percent, process_cell

ON_MARK: Final = "█"
OFF_MARK: Final = "░"
OFFLOAD: Final = "on / off"
OPEN_MARK: Final = "▾"
CLOSED_MARK: Final = "▸"
INDENT: Final = "└ "
SHORTEST_IDLE_SECONDS: Final = 60
"""A model that ran within a minute is in use."""
SHORT_NOTE: Final = 10
"""The longest note of a process's state: `stalled`, `>14s old`."""


class ModelTable(LineTable[Entry]):
    """The models; the cursor stays on its model while rows move around it."""

    LEAD: ClassVar[int] = 1

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "enter",
            "open",
            "Layers",
            key_display="Enter",
            id="models.open",
            tooltip="Open the model's layers; unfold a job's ranks",
        ),
    ]

    def __init__(self, *, clock: Callable[[], float] = time.time, of_one_process: bool = False, id: str | None = None) -> None:
        """Args:
        clock: Returns seconds since the epoch; used for ages.
        of_one_process: Whether all rows belong to one process, so that no column for it is needed.
        """
        self._clock = clock
        self._ages: list[Cell] = []
        """The ages of the visible rows when they were last checked."""
        self._of_one_process = of_one_process
        self._columns_of = {
            (several, idle): self._make_columns(several, idle) for several in (False, True) for idle in (False, True)
        }
        super().__init__(self._columns_of[False, False], id=id)

    def show_devices(self, several: bool, with_idle: bool = False) -> None:
        """Show or hide the columns with the rows' devices, and with how long they haven't run."""
        self.set_columns(self._columns_of[several, with_idle])

    @property
    def sortable(self) -> list[str]:
        """The columns by which rows can be sorted, from left to right."""
        return [column.key for column in self.columns if column.key]

    def key_of(self, row: Entry) -> Hashable:
        """The key of the model or process, and of its device."""
        return row.key

    def draws_same(self, before: Entry, after: Entry) -> bool:
        """Whether the model's row and its mark in the device's bar are unchanged."""
        return (
            before.row is after.row
            and before.unattached is after.unattached
            and before.group == after.group
            and (before.is_open, before.rank) == (after.is_open, after.rank)
            and before.depth == after.depth
            and before.device.total_bytes == after.device.total_bytes
            and before.device.label == after.device.label
            and (before.device is after.device or _marks(before.device) == _marks(after.device))
        )

    def redraw_ages(self) -> None:
        """Draw the visible ages again if one of them reads differently by now."""
        visible = self.rows[self.top_row : self.top_row + self.visible_rows]
        ages = [cell for entry in visible for cell in (self._age_cell(entry, 0), self._idle_cell(entry, 0))]
        if ages != self._ages:
            self._ages = ages
            self.redraw()

    def is_match(self, row: Entry) -> bool:
        """False for models that are listed only because of their adapters."""
        return row.matches

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Disable opening if there are no rows."""
        return None if action == "open" and self.cursor_row is None else True

    def _make_columns(self, several: bool, with_idle: bool) -> list[Column[Entry]]:
        device = Column("gpu", device_cell, least=4, most=8, importance=8, key="device")
        process: Column[Entry] = Column(
            "process",
            process_of,
            least=7,
            most=34,
            importance=6,
            eager=22,
            key="process",
        )
        # Next to the age, which goes first where there is no room for both.
        idle: Column[Entry] = Column("idle", self._idle_cell, least=4, right=True, importance=2, key="idle")
        return [
            Column("", mark_cell, least=1, importance=10),
            Column("name", name_cell, least=20, most=56, importance=11, eager=30, key="name"),
            Column("kind", kind_cell, least=10, most=12, importance=5, key="kind"),
            *([device] if several else []),
            Column(
                "on device",
                on_cell,
                least=7,
                most=9,
                right=True,
                importance=9,
                short_title="on dev",
                key="on",
            ),
            Column(
                "off device",
                self._off_cell,
                least=7,
                most=10,
                right=True,
                importance=7,
                short_title="off dev",
                key="off",
            ),
            Column(OFFLOAD, loaded_cell, least=6, most=10, importance=0, short_title="on/off"),
            Column("share", share_cell, least=4, most=5, right=True, importance=3, short_title="%", key="share"),
            Column("layers", layers_cell, least=3, most=6, right=True, importance=1, short_title="lay", key="layers"),
            Column("dtype", dtype_cell, least=5, most=10, importance=4, key="dtype"),
            Column("age", self._age_cell, least=4, right=True, importance=2, key="age"),
            *([idle] if with_idle else []),
            *([] if self._of_one_process else [process]),
        ]

    def _off_cell(self, entry: Entry, width: int) -> Cell:
        """Bytes off the device. If the column with the bar doesn't fit, the share that is off is shown by inverted text."""
        if entry.unattached is not None:
            return BLANK
        cell = bytes_cell(entry.off_bytes, OFF)
        if not entry.off_bytes or any(placed.column.title == OFFLOAD for placed in self.placed_columns):
            return cell
        words = format_bytes(entry.off_bytes).rjust(width)
        filled = on_and_off_columns(entry, width)[1]
        return (*text(words[:filled], OFF_FILL), *text(words[filled:], OFF))

    def _age_cell(self, entry: Entry, width: int) -> Cell:
        if entry.since_ns is None:
            return BLANK
        return text(calm_age(self._clock() - entry.since_ns / 1e9), MUTED)

    def _idle_cell(self, entry: Entry, width: int) -> Cell:
        """How long it hasn't run; blank if it just did, or if that isn't known."""
        idle = 0.0 if entry.last_used_ns is None else self._clock() - entry.last_used_ns / 1e9
        return text(format_age(idle), MUTED) if idle >= SHORTEST_IDLE_SECONDS else BLANK


def _marks(device: DeviceRow) -> list[str]:
    return [part.key for part in device.parts]


def mark_cell(entry: Entry, width: int) -> Cell:
    """The entry's mark in its device's bar; of a group, whether its ranks are listed below it."""
    if entry.group is not None:
        return text(OPEN_MARK if entry.is_open else CLOSED_MARK, MUTED)
    if entry.row is None:
        mark, role, _ = MARKS[PartKind.OUTSIDE]
        return text(mark, role)
    if not entry.on_bytes or entry.row.process_state.liveness is Liveness.DEAD:
        return BLANK
    return mark_of(entry.device.parts, entry.row.key)


def name_cell(entry: Entry, width: int) -> Cell:
    """The name and its note, if both fit; for a short note (`dead`) the name is cut. A rank has its number before it."""
    indent = text(INDENT.rjust(2 * entry.depth), MUTED) if entry.depth else BLANK
    if entry.rank is not None:
        indent = (*indent, *text(f"rank {entry.rank}  ", ACCENT))
    room = width - width_of(indent)
    if entry.unattached is not None and not fits(f"{entry.name} ({entry.note})" if entry.note else entry.name, room):
        # That it isn't attached stands beside it; how its model is known, among the facts.
        is_guess = bool(entry.unattached.models) and entry.unattached.models[0].may_not_be_loaded
        return text(
            shortened(safe_text(entry.name), room - 1) + "?" if is_guess else SHORTER.get(entry.name) or safe_text(entry.name)
        )
    if entry.group is not None:
        return (*indent, *_with_ranks(entry.group, room))
    return (*indent, *_with_note(safe_text(entry.name), entry.note, room, WARNING if entry.unattached is None else MUTED))


def _with_ranks(group: RankGroup, width: int) -> Cell:
    """How many ranks hold it; where that doesn't fit, only how unequal they are, unless they are even."""
    name, spread = safe_text(group.name), imbalance_in_words(group.sizes)
    role = MUTED if spread == EVEN_WORD else WARNING
    if fits(f"{name} ({group.summary})", width):
        return _with_note(name, group.summary, width, role)
    return text(name) if spread == EVEN_WORD else _with_note(name, spread, width, role)


def _with_note(name: str, note: str, width: int, role: str = WARNING) -> Cell:
    if not note:
        return text(name)
    suffix = f" ({safe_text(note)})"
    room = width - width_of(text(suffix))
    if fits(name, room):
        return (*text(name), *text(suffix, role))
    # That a process is stalled or late matters more than the end of a name.
    if room >= (width * 2 // 5 if len(note) <= SHORT_NOTE else width * 3 // 5):
        return (*text(shortened(name, room)), *text(suffix, role))
    return text(name)


def kind_cell(entry: Entry, width: int) -> Cell:
    """The model's kind; for a process without a sidecar, that it isn't attached."""
    if entry.unattached is not None:
        return text(entry.kind if width >= len(entry.kind) else "unattached", WARNING)
    return text(safe_text(entry.kind, 40), ACCENT)


def process_of(entry: Entry, width: int) -> Cell:
    """Label and pid; for a group, how many ranks it has, with the label if there is room."""
    if entry.group is None:
        return process_cell(entry.process, width)
    words = f"{entry.group.process} ({entry.group.counted})"
    return text(words if fits(words, width) else entry.group.counted, MUTED)


def device_cell(entry: Entry, width: int) -> Cell:
    """The device's label: `0`, `cuda:1`, `host`; of a group, those of all its devices."""
    return text(safe_text(entry.device.label if entry.group is None else entry.group.devices, 40), MUTED)


def on_cell(entry: Entry, width: int) -> Cell:
    """Bytes on the device; a question mark if the driver doesn't report them."""
    if entry.unattached is not None and entry.unattached.used_bytes is None:
        return text("?", MUTED)
    return bytes_cell(entry.on_bytes)


def loaded_cell(entry: Entry, width: int) -> Cell:
    """A bar of the shares on and off the device; blank if nothing is off it."""
    if not entry.off_bytes:
        return BLANK
    on, off = on_and_off_columns(entry, width)
    return (*text(ON_MARK * on, BAR), *text(OFF_MARK * off, OFF))


def on_and_off_columns(entry: Entry, width: int) -> tuple[int, int]:
    """How many of `width` columns stand for bytes on the device, and how many for bytes off it; at least one if there are any."""
    on = round(entry.on_bytes / (entry.on_bytes + entry.off_bytes) * width)
    on = min(max(on, 1 if entry.on_bytes else 0), width - 1)
    return on, width - on


def share_cell(entry: Entry, width: int) -> Cell:
    """The model's share of the device's memory."""
    return text(percent(entry.share)) if entry.share and entry.on_bytes else BLANK


def layers_cell(entry: Entry, width: int) -> Cell:
    """The number of layers; in thousands if it doesn't fit."""
    if entry.unattached is not None:
        return BLANK
    count = str(entry.layers)
    return text(count if len(count) <= width else f"{entry.layers // 1000}k")


def dtype_cell(entry: Entry, width: int) -> Cell:
    """The dtype of most of the model's bytes."""
    return text(safe_text(dtype_in(entry.dtype, width), 40)) if entry.dtype else BLANK
