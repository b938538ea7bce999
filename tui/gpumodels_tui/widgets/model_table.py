"""The models of one device."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import ClassVar

from textual.binding import Binding, BindingType

from gpumodels_shared.safe_text import safe_text
from gpumodels_tui.theme import ACCENT, MUTED, OFF, WARNING
from gpumodels_tui.view_model import ModelRow
from gpumodels_tui.widgets.cells import Cell, shortened, text, width_of
from gpumodels_tui.widgets.columns import Column
from gpumodels_tui.widgets.line_table import LineTable
from gpumodels_tui.widgets.quantities import bytes_cell, calm_age, short_dtype


class ModelTable(LineTable[ModelRow]):
    """The cursor stays on its model while rows move around it."""

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
        super().__init__(
            [
                Column("name", name_cell, least=20, most=56, importance=9),
                Column("kind", lambda row, _: text(safe_text(row.kind, 40), ACCENT), least=10, importance=5),
                Column(
                    "on device",
                    lambda row, _: bytes_cell(row.on_bytes),
                    least=7,
                    most=9,
                    right=True,
                    importance=8,
                    short_title="on dev",
                ),
                Column(
                    "off device",
                    lambda row, _: bytes_cell(row.off_bytes, OFF),
                    least=7,
                    most=10,
                    right=True,
                    importance=7,
                    short_title="off dev",
                ),
                Column("layers", lambda row, _: text(str(row.layers)), least=6, right=True, importance=3),
                Column("dtype", lambda row, _: text(safe_text(short_dtype(row.dtype), 40)), least=8, most=9, importance=4),
                Column("age", self._age_cell, least=4, right=True, importance=2),
                Column("process", process_cell, least=7, most=26, importance=6),
            ],
            id=id,
        )

    def key_of(self, row: ModelRow) -> Hashable:
        """The model's, in its process."""
        return row.key

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Without a model there are no layers."""
        return None if action == "open" and self.cursor_row is None else True

    def _age_cell(self, row: ModelRow, width: int) -> Cell:
        return text(calm_age(self._clock() - row.loaded_at_ns / 1e9), MUTED)


def name_cell(row: ModelRow, width: int) -> Cell:
    """The name, and its note where both fit; a short note (`dead`) is worth a cut name."""
    name = safe_text(row.name)
    if not row.note:
        return text(name)
    note = f" ({safe_text(row.note)})"
    room = width - width_of(text(note))
    if width_of(text(name[: width * 2])) <= room:
        return (*text(name), *text(note, WARNING))
    if room >= width * 3 // 5:
        return (*text(shortened(name, room)), *text(note, WARNING))
    return text(name)


def process_cell(row: ModelRow, width: int) -> Cell:
    """Label and pid where there is room, else the pid: what `ps` and `kill` take."""
    whole = safe_text(row.process)
    if width_of(text(whole[: width * 2])) <= width:
        return text(whole, MUTED)
    pid = str(row.process_state.pid)
    label = whole.removesuffix(pid).rstrip()
    room = width - len(pid) - 1
    if room < 6:
        return text(pid, MUTED)
    return text(f"{shortened(label, room)} {pid}", MUTED)
