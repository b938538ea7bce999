"""The table of one model's layers, as a tree that can be folded."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import ClassVar, Final

from textual import events
from textual.binding import Binding, BindingType

from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.units import format_bytes, format_count
from gpumodels_tui.theme import ACCENT, MUTED, OFF, STRONG, WARNING
from gpumodels_tui.view.layer_sums import ORDERS, LayerSums, Outline
from gpumodels_tui.widgets.cells import BLANK, Cell, bar, shortened, text, width_of
from gpumodels_tui.widgets.columns import Column
from gpumodels_tui.widgets.line_table import LineTable
from gpumodels_tui.widgets.quantities import bytes_cell, dtype_in, percent

OPEN_MARK: Final = "▾ "
CLOSED_MARK: Final = "▸ "
LEAF_MARK: Final = "  "
PERCENT_WIDTH: Final = 4
NOWHERE: Final = "none"
"""The label for layers on disk, or not loaded yet."""


class LayerTable(LineTable[int]):
    """Rows are positions in the tree's preorder. The cursor and unfolded layers are kept, by their names, for a new tree."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "enter",
            "toggle_layer",
            "Open",
            key_display="Enter",
            id="layers.toggle",
            tooltip="Unfold or fold the layer",
        ),
        Binding(
            "right,l", "unfold", "Unfold", show=False, id="layers.unfold", tooltip="Unfold the layer, or go to its first child"
        ),
        Binding("left,h", "fold", "Fold", show=False, id="layers.fold", tooltip="Fold the layer, or go to its parent"),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        self.outline = Outline()
        self.labels: Mapping[str, str] = {}
        """The devices' labels by torch's names; drawn at the next `show_layers`."""
        super().__init__(
            [
                Column("layer", self._name_cell, least=22, most=48, importance=9, eager=48, key="name"),
                Column(
                    "on device",
                    lambda layer, _: bytes_cell(self.sums.on_bytes[layer]),
                    least=7,
                    most=9,
                    right=True,
                    importance=8,
                    short_title="on dev",
                    key="size",
                ),
                Column(
                    "off device",
                    lambda layer, _: bytes_cell(self.sums.off_bytes[layer], OFF),
                    least=7,
                    most=10,
                    right=True,
                    importance=6,
                    short_title="off dev",
                ),
                Column("share of parent", self._share_cell, least=13, most=25, importance=7, short_title="of parent"),
                Column(
                    "parameters",
                    lambda layer, _: text(format_count(self.sums.parameters[layer])),
                    least=6,
                    most=10,
                    right=True,
                    importance=3,
                    short_title="params",
                ),
                Column(
                    "dtype",
                    lambda layer, width: text(safe_text(dtype_in(self.sums.dtypes[layer], width), 40), MUTED),
                    least=5,
                    most=9,
                    importance=5,
                ),
                Column("gpu", self._where_cell, least=6, most=10, importance=4),
            ],
            id=id,
        )

    def key_of(self, row: int) -> Hashable:
        """The row's position in the tree."""
        return row

    @property
    def sums(self) -> LayerSums:
        """The sums of the tree that is shown."""
        assert self.outline.sums is not None
        return self.outline.sums

    def show_layers(self, sums: LayerSums) -> None:
        """Show another state of the model."""
        before, layer = self.outline.sums, self.cursor_row
        self._mark_order()
        self.outline.replace(sums)
        cursor = None
        if before is not None and layer is not None:
            cursor, _ = sums.find(before.path(layer))
        self.show(self.outline.layers_in_sight(), cursor)

    def is_match(self, row: int) -> bool:
        """False for layers that are shown only because of a match below them."""
        return self.outline.is_match(row)

    def filter(self, words: str) -> None:
        """Show only layers that contain the words, and their ancestors."""
        self.outline.filter(words)
        self._show_outline()

    def sort_next(self, step: int = 1) -> str:
        """Sort by the next or the previous order, and return its name."""
        self.sort_by(ORDERS[(ORDERS.index(self.outline.order) + step) % len(ORDERS)])
        return {"model": "their order in the model"}.get(self.outline.order, self.outline.order)

    def sort_by(self, order: str) -> None:
        """Sort by one of `ORDERS`; reverse the order if it is the present one."""
        self.outline.reverse = order == self.outline.order and not self.outline.reverse
        self.outline.order = order
        self._show_outline()

    def reverse(self) -> None:
        """Reverse the order of the layers."""
        self.outline.reverse = not self.outline.reverse
        self._show_outline()

    def _show_outline(self) -> None:
        self._mark_order()
        if self.outline.sums is not None:
            self.show(self.outline.layers_in_sight())

    def _mark_order(self) -> None:
        """Mark the sorted column; in the model's order none is marked."""
        self.mark_sorted(self.outline.order, (self.outline.order == "size") is not self.outline.reverse)

    def on_click(self, event: events.Click) -> None:
        """Fold or unfold a layer on a single click on its mark."""
        row = self.row_at(event.y)
        mark = 0 if row is None else self.LEAD + self._indent(row, self._name_width())
        if row is not None and self.sums.has_children(row) and mark <= event.x < mark + len(OPEN_MARK):
            event.prevent_default()
            self.choose(row)
            self.action_toggle_layer()

    def action_toggle_layer(self) -> None:
        """Unfold the layer if it is folded, else fold it."""
        layer = self.cursor_row
        if layer is not None:
            if self.outline.is_unfolded(layer):
                self.outline.fold(layer)
            else:
                self.outline.unfold(layer)
            self.show(self.outline.layers_in_sight())

    def action_open(self) -> None:
        """Unfold or fold the layer on a double click."""
        self.action_toggle_layer()

    def action_unfold(self) -> None:
        """Unfold the layer; if it is unfolded already, move to its first child."""
        layer = self.cursor_row
        if layer is None or not self.sums.has_children(layer):
            return
        if self.outline.is_unfolded(layer):
            self.action_move(1)
        else:
            self.outline.unfold(layer)
            self.show(self.outline.layers_in_sight())

    def action_fold(self) -> None:
        """Fold the layer; if it is folded already, move to its parent."""
        layer = self.cursor_row
        if layer is None:
            return
        if self.outline.is_unfolded(layer):
            self.outline.fold(layer)
            self.show(self.outline.layers_in_sight())
        elif layer > 0:
            self.choose(self.sums.parents[layer])

    def _indent(self, layer: int, width: int) -> int:
        """The number of blanks before the layer's mark."""
        return min(2 * self.sums.tree.depths[layer], max(width // 2, 0))

    def _name_width(self) -> int:
        return next((placed.width for placed in self.placed_columns if placed.column.key == "name"), 0)

    def _name_cell(self, layer: int, width: int) -> Cell:
        sums = self.sums
        mark = LEAF_MARK
        if sums.has_children(layer):
            mark = OPEN_MARK if self.outline.is_unfolded(layer) else CLOSED_MARK
        indent = " " * self._indent(layer, width) + mark
        class_name = safe_text(sums.class_name(layer), 200)
        shared = sums.shared_bytes[layer]
        if layer == 0:
            return (*text(indent, MUTED), *text(class_name, STRONG))
        name = text(safe_text(sums.tree.names[layer], 200))
        note = text(f" +{format_bytes(shared)} shared", WARNING) if shared else BLANK
        if width_of(name) + width_of(note) > width - len(indent):
            note = text(" shared", WARNING) if shared else BLANK
        name = text(shortened(name[0][0], max(width - len(indent) - width_of(note), 4))) if name else name
        return (*text(indent, MUTED), *name, *note, *text(f"  {class_name}", ACCENT))

    def _where_cell(self, layer: int, width: int) -> Cell:
        devices = self.sums.devices(layer)
        labels = [NOWHERE if device == "meta" else safe_text(self.labels.get(device, device), 40) for device in devices]
        return text("+".join(dict.fromkeys(labels)), MUTED)

    def _share_cell(self, layer: int, width: int) -> Cell:
        share = self.sums.share_of_parent(layer)
        return (*text(f"{percent(share):>{PERCENT_WIDTH}} "), *bar(share, width - PERCENT_WIDTH - 1))
