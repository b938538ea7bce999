"""A full screen with a list of models that the user can sort."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Final

from textual import on
from textual.binding import Binding, BindingType
from textual.widget import Widget

from gpumodels_tui.screens.list_screen import ListScreen
from gpumodels_tui.screens.requested import ModelRequested, ProcessRequested
from gpumodels_tui.view.listing import Entry, EntryKey, Order
from gpumodels_tui.view.rows import ModelRow
from gpumodels_tui.widgets.model_table import ModelTable
from gpumodels_tui.widgets.table_messages import HeadingClicked, RowOpened

if TYPE_CHECKING:
    from gpumodels_tui.widgets import explanations

SORT_STEPS: Final = ("on", "age", "idle", "name", "off", "kind", "process")
"""The columns that `s` goes through; `<` and `>` go through all columns."""


SORT_NEXT: Final = "Sort by bytes, age, name, … in turn"
SORT_BY_NEIGHBOUR: Final = "Sort by the next column to the left or right"


class ModelListScreen(ListScreen):
    """Subclasses compose a `ModelTable` and show it in `order`."""

    AUTO_FOCUS = "ModelTable"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "sort(1)", "Sort", id="models.sort", tooltip=SORT_NEXT),
        Binding("f6", "sort(1)", "Sort", show=False, id="models.sort_f6", tooltip=SORT_NEXT),
        Binding("r", "reverse", "Reverse", show=False, id="models.reverse", tooltip="Reverse the order"),
        Binding("i", "facts", "Facts", show=False, id="models.facts", tooltip="All facts, and the files' raw metadata"),
        Binding("h", "holders", "Held by", show=False, id="models.holders", tooltip="Who holds it: asks its process, once"),
        Binding(
            "less_than_sign",
            "column(-1)",
            "Column",
            show=False,
            id="models.column_left",
            tooltip=SORT_BY_NEIGHBOUR,
        ),
        Binding(
            "greater_than_sign",
            "column(1)",
            "Column",
            show=False,
            id="models.column_right",
            tooltip=SORT_BY_NEIGHBOUR,
        ),
    ]

    order: Order = Order()
    """The column and direction that the list is sorted by."""

    unfolded: frozenset[EntryKey] = frozenset()
    """The groups whose ranks are listed."""

    def __init__(self, table: ModelTable) -> None:
        """Args:
        table: The list of models.
        """
        super().__init__()
        self._table = table

    @property
    def entry(self) -> Entry | None:
        """The row under the cursor."""
        return self._table.cursor_row

    @property
    def model(self) -> ModelRow | None:
        """The model under the cursor."""
        return None if self.entry is None else self.entry.row

    def explanations(self) -> Sequence[explanations.Group]:
        """Explanations of the list's marks and short titles."""
        from gpumodels_tui.widgets.explanations import MODELS

        return MODELS

    def show_columns(self, listed: Sequence[Entry], several: bool) -> None:
        """Show the columns that these entries need.

        Args:
            listed: What is listed.
            several: Whether that may be on several devices.
        """
        self._table.show_devices(several, with_idle=any(entry.last_used_ns is not None for entry in listed))

    def list_widget(self) -> Widget:
        """The list of models."""
        return self._table

    def keep_keys(self, is_empty: bool) -> None:
        """Take the focus from the list before it is hidden, and return it when it is shown again."""
        if is_empty and self._table.has_focus:
            self.set_focus(None)
        elif not is_empty and self.focused is None:
            self._table.focus()

    def filtered(self) -> None:
        """Show the list again after its words or its order have changed."""
        if self.view is not None and self.is_mounted:
            self.show(self.view)

    def go_to_match(self, step: int) -> None:
        """Move the cursor to the next match in the list of models."""
        self._table.go_to_match(step)

    def action_sort(self, step: int) -> None:
        """Sort by the next of `SORT_STEPS`."""
        columns = [column for column in SORT_STEPS if column in self._table.sortable]
        position = columns.index(self.order.column) if self.order.column in columns else -1
        self._sort_by(columns[(position + step) % len(columns)])

    def action_column(self, step: int) -> None:
        """Sort by the next column to the right, or to the left."""
        columns = self._table.sortable
        position = columns.index(self.order.column) if self.order.column in columns else 0
        self._sort_by(columns[(position + step) % len(columns)])

    def action_reverse(self) -> None:
        """Reverse the order."""
        self.order = Order(self.order.column, not self.order.reverse)
        self.filtered()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Disable the facts if there is no row."""
        if action == "facts":
            return None if self.entry is None or not self._table.display else True
        if action == "holders":
            return None if self.model is None or not self._table.display else True
        return super().check_action(action, parameters)

    def action_holders(self) -> None:
        """Ask the model's process who holds it, and say it in a box."""
        from gpumodels_tui.screens.holders_box import HoldersBox

        if self.model is not None:
            self.app.push_screen(HoldersBox(self.model))

    def action_facts(self) -> None:
        """Show all facts about the model, or about the process without a sidecar, in a box."""
        from gpumodels_tui.screens.facts_box import facts_box

        entry = self.entry
        row = None if entry is None else entry.row or entry.unattached or entry.group
        if row is not None:
            self.app.push_screen(facts_box(row, self.size.width))

    @on(HeadingClicked)
    def _heading_clicked(self, event: HeadingClicked) -> None:
        if event.column == self.order.column:
            self.action_reverse()
        else:
            self._sort_by(event.column)

    @on(RowOpened)
    def _opened(self) -> None:
        entry = self.entry
        if entry is not None and entry.group is not None:
            self.unfolded ^= {entry.key}
            self.filtered()
        elif entry is not None and entry.row is not None:
            self.post_message(ModelRequested(entry.device.key, entry.row.key))
        elif entry is not None:
            self.post_message(ProcessRequested(entry.process_key))

    def _sort_by(self, column: str) -> None:
        self.order = Order(column)
        self.filtered()
