"""The models of one device, or of all."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import ClassVar, Final

from textual.binding import Binding, BindingType

from gpumodels_shared.liveness import Liveness
from gpumodels_shared.safe_text import safe_text
from gpumodels_tui.listing import Entry
from gpumodels_tui.memory_parts import PartKind
from gpumodels_tui.theme import ACCENT, BAR, MUTED, OFF, WARNING
from gpumodels_tui.view_model import DeviceRow
from gpumodels_tui.widgets.cells import BLANK, Cell, shortened, text, width_of
from gpumodels_tui.widgets.columns import Column
from gpumodels_tui.widgets.line_table import LineTable
from gpumodels_tui.widgets.memory_bar import MARKS, mark_of
from gpumodels_tui.widgets.quantities import bytes_cell, calm_age, percent, short_dtype

ON_MARK: Final = "█"
OFF_MARK: Final = "░"
INDENT: Final = "└ "


class ModelTable(LineTable[Entry]):
    """The cursor stays on its model while rows move around it."""

    LEAD: ClassVar[int] = 1

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "enter",
            "open",
            "Layers",
            key_display="Enter",
            id="models.open",
            tooltip="Open the model under the cursor: its facts and its layers",
        ),
    ]

    def __init__(self, *, clock: Callable[[], float] = time.time, id: str | None = None) -> None:
        """Args:
        clock: Seconds since the epoch, what ages are counted from.
        """
        self._clock = clock
        self._columns_of_one = self._make_columns(several=False)
        self._columns_of_several = self._make_columns(several=True)
        super().__init__(self._columns_of_one, id=id)

    def show_devices(self, several: bool) -> None:
        """Whether a column says which device a row is of."""
        self.set_columns(self._columns_of_several if several else self._columns_of_one)

    def sortable(self, several: bool) -> list[str]:
        """The columns by which rows can be sorted, left to right."""
        return [column.key for column in (self._columns_of_several if several else self._columns_of_one) if column.key]

    def key_of(self, row: Entry) -> Hashable:
        """The model's, in its process, on its device."""
        return row.key

    def looks_same(self, before: Entry, after: Entry) -> bool:
        """While the model's row is the same, and its mark in the device's bar."""
        return (
            before.row is after.row
            and before.unattached is after.unattached
            and before.depth == after.depth
            and before.device.total_bytes == after.device.total_bytes
            and before.device.label == after.device.label
            and (before.device is after.device or _marks(before.device) == _marks(after.device))
        )

    def is_match(self, row: Entry) -> bool:
        """Those that are listed only for their adapters are passed over."""
        return row.matches

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Without a row there is nothing to open."""
        return None if action == "open" and self.cursor_row is None else True

    def _make_columns(self, several: bool) -> list[Column[Entry]]:
        device = Column("gpu", device_cell, least=4, most=8, importance=8, key="device")
        return [
            Column("", mark_cell, least=1, importance=10),
            Column("name", name_cell, least=20, most=56, importance=11, key="name"),
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
                lambda entry, _: BLANK if entry.row is None else bytes_cell(entry.off_bytes, OFF),
                least=7,
                most=10,
                right=True,
                importance=7,
                short_title="off dev",
                key="off",
            ),
            Column("loaded", loaded_cell, least=6, most=10, importance=0),
            Column("share", share_cell, least=4, most=5, right=True, importance=3, short_title="shr", key="share"),
            Column("layers", layers_cell, least=3, most=6, right=True, importance=1, short_title="lay", key="layers"),
            Column("dtype", dtype_cell, least=5, most=9, importance=4, key="dtype"),
            Column("age", self._age_cell, least=4, right=True, importance=2, key="age"),
            Column("process", process_cell, least=7, most=26, importance=6, key="process"),
        ]

    def _age_cell(self, entry: Entry, width: int) -> Cell:
        if entry.since_ns is None:
            return BLANK
        return text(calm_age(self._clock() - entry.since_ns / 1e9), MUTED)


def _marks(device: DeviceRow) -> list[str]:
    return [part.key for part in device.parts]


def mark_cell(entry: Entry, width: int) -> Cell:
    """By which it is found in its device's bar."""
    if entry.row is None:
        mark, role, _ = MARKS[PartKind.OUTSIDE]
        return text(mark, role)
    if not entry.on_bytes or entry.row.process_state.liveness is Liveness.DEAD:
        return BLANK
    return mark_of(entry.device.parts, entry.row.key)


def name_cell(entry: Entry, width: int) -> Cell:
    """The name, and its note where both fit; a short note (`dead`) is worth a cut name."""
    indent = text(INDENT.rjust(2 * entry.depth), MUTED) if entry.depth else BLANK
    room = width - width_of(indent)
    return (*indent, *_noted(safe_text(entry.name), entry.row.note if entry.row is not None else "", room))


def _noted(name: str, said: str, width: int) -> Cell:
    if not said:
        return text(name)
    note = f" ({safe_text(said)})"
    room = width - width_of(text(note))
    if width_of(text(name[: width * 2])) <= room:
        return (*text(name), *text(note, WARNING))
    if room >= width * 3 // 5:
        return (*text(shortened(name, room)), *text(note, WARNING))
    return text(name)


def kind_cell(entry: Entry, width: int) -> Cell:
    """A model's kind; of a process without a sidecar, that."""
    if entry.row is None:
        return text(entry.kind if width >= len(entry.kind) else "unattached", WARNING)
    return text(safe_text(entry.kind, 40), ACCENT)


def device_cell(entry: Entry, width: int) -> Cell:
    """`0`, `cuda:1`, `host`."""
    return text(safe_text(entry.device.label, 40), MUTED)


def on_cell(entry: Entry, width: int) -> Cell:
    """Bytes on the device; a question mark where the driver doesn't say."""
    if entry.unattached is not None and entry.unattached.used_bytes is None:
        return text("?", MUTED)
    return bytes_cell(entry.on_bytes)


def loaded_cell(entry: Entry, width: int) -> Cell:
    """What of it is on the device, as a bar, where something is off it."""
    if not entry.off_bytes:
        return BLANK
    on = round(entry.on_bytes / (entry.on_bytes + entry.off_bytes) * width)
    on = min(max(on, 1 if entry.on_bytes else 0), width - 1)
    return (*text(ON_MARK * on, BAR), *text(OFF_MARK * (width - on), OFF))


def share_cell(entry: Entry, width: int) -> Cell:
    """Of the device's memory."""
    return text(percent(entry.share)) if entry.share and entry.on_bytes else BLANK


def layers_cell(entry: Entry, width: int) -> Cell:
    """How many; in thousands where there are many."""
    if entry.row is None:
        return BLANK
    count = str(entry.row.layers)
    return text(count if len(count) <= width else f"{entry.row.layers // 1000}k")


def dtype_cell(entry: Entry, width: int) -> Cell:
    """`bf16`; `fp8` where the whole name of the format has no room."""
    if entry.row is None:
        return BLANK
    whole = short_dtype(entry.row.dtype)
    if len(whole) > width and whole.startswith("fp8"):
        whole = "fp8" + ("+" if whole.endswith("+") else "")
    return text(safe_text(whole, 40))


def process_cell(entry: Entry, width: int) -> Cell:
    """Label and pid where there is room, else the pid: what `ps` and `kill` take."""
    whole = safe_text(entry.process)
    if width_of(text(whole[: width * 2])) <= width:
        return text(whole, MUTED)
    pid = str(entry.pid)
    label = whole.removesuffix(pid).rstrip()
    room = width - len(pid) - 1
    if room < 6:
        return text(pid, MUTED)
    return text(f"{shortened(label, room)} {pid}", MUTED)
