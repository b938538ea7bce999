"""The screen of one model: its facts, and the tree of its layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Final

from rich.text import Text
from textual import events, on
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.widget import Widget
from textual.widgets import Static

from gpumodels_shared.decoding import DecodeError, decode_tree
from gpumodels_shared.safe_text import safe_text
from gpumodels_tui.screens.facts_box import KEY, MEANING, facts_box
from gpumodels_tui.screens.list_screen import ListScreen
from gpumodels_tui.theme import HEADING, MUTED, STYLES, WARNING
from gpumodels_tui.view.device_names import HOST
from gpumodels_tui.view.layer_sums import sum_layers
from gpumodels_tui.view.model_facts import facts_of, headline
from gpumodels_tui.view.rows import DeviceRow, ModelRow, View
from gpumodels_tui.widgets.facts_panel import FactsPanel
from gpumodels_tui.widgets.layer_table import LayerTable
from gpumodels_tui.widgets.table_messages import HeadingClicked

if TYPE_CHECKING:
    from gpumodels_tui.widgets import explanations

WIDE_COLUMNS: Final = 118
"""From this width on, the facts are beside the tree instead of above it."""
FACTS_ABOVE: Final = 5
LINES_PER_FACT: Final = 4
"""Above the tree there is one fact for this many lines of the screen."""
ORDERS: Final = "Sort by size, by name, or in the model's order"
FACTS_BESIDE: Final = (38, 60)
"""The least and most columns of the facts beside the tree, which take three tenths of the screen."""


class LayersScreen(ListScreen):
    """Follows its model from view to view; after the model is unloaded, its last state stays on screen."""

    DEFAULT_CSS = """
    LayersScreen #title { height: 1; padding: 0 2; }
    LayersScreen #state { height: 1; padding: 0 2; display: none; }
    LayersScreen.-gone > #state { display: block; }
    LayersScreen #panes { height: 1fr; layout: vertical; }
    LayersScreen FactsPanel { max-height: 5; margin-bottom: 1; overflow: hidden; }
    LayersScreen FactsPanel:focus { max-height: 50%; overflow-y: auto; }
    LayersScreen LayerTable { height: 1fr; }
    LayersScreen #no-tree { height: 1fr; padding: 1 2; display: none; }
    LayersScreen.-treeless LayerTable { display: none; }
    LayersScreen.-treeless #no-tree { display: block; }
    LayersScreen.-wide #panes { layout: horizontal; margin-top: 1; }
    LayersScreen.-wide FactsPanel { height: 1fr; max-height: 100%; margin-bottom: 0; overflow-y: auto; }
    LayersScreen.-no-room > #state { display: none; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab,shift+tab", "pane", "Pane", show=False, id="layers.pane", tooltip="Switch between facts and layers"),
        Binding("s", "sort(1)", "Sort", id="layers.sort", tooltip=ORDERS),
        Binding("f6,greater_than_sign", "sort(1)", "Sort", show=False, id="layers.sort_next", tooltip=ORDERS),
        Binding("less_than_sign", "sort(-1)", "Sort", show=False, id="layers.sort_before", tooltip=ORDERS),
        Binding("r", "reverse", "Reverse", show=False, id="layers.reverse", tooltip="Reverse the order"),
        Binding(KEY, "facts", "Facts", id="layers.facts", tooltip=MEANING),
    ]

    def __init__(self, device_key: str, model_key: str) -> None:
        """Args:
        device_key: The device whose list the model was opened from; its bytes there count as on.
        model_key: `ModelRow.key`.
        """
        super().__init__()
        self._device_key = device_key
        self._model_key = model_key
        self._row: ModelRow | None = None
        self._summed: tuple[bytes | None, str, Mapping[str, str]] | None = None
        """What is shown now: the packed tree, the device whose bytes count as on, and what devices are called."""

    AUTO_FOCUS = "LayerTable"

    @property
    def model(self) -> ModelRow | None:
        """The model in its last known state."""
        return self._row

    def content(self) -> Iterator[Widget]:
        """The facts, above or beside the tree."""
        yield Static(id="title")
        yield Static(Text("Unloaded. This is its last known state; Esc goes back.", STYLES[WARNING]), id="state")
        yield Container(
            FactsPanel(most=FACTS_ABOVE),
            LayerTable(),
            Static(id="no-tree"),
            id="panes",
        )

    def on_resize(self, event: events.Resize) -> None:
        """Put the facts beside the tree if the screen is wide enough."""
        super().on_resize(event)
        wide = event.size.width >= WIDE_COLUMNS
        self.set_class(wide, "-wide")
        facts = self.query_one(FactsPanel)
        facts.styles.width = min(max(event.size.width * 3 // 10, FACTS_BESIDE[0]), FACTS_BESIDE[1]) if wide else "1fr"
        facts.wrap, facts.most = wide, 0 if wide else min(max((event.size.height - 4) // LINES_PER_FACT, 1), FACTS_ABOVE)
        if self._row is not None:
            facts.show(facts_of(self._row))

    def show(self, view: View) -> None:
        """Draw the differences from the view shown before."""
        device, row = self._find(view)
        self.set_class(row is None, "-gone")
        if row is None or device is None or row == self._row:
            return
        self._row = row
        self.query_one("#title", Static).update(
            Text(headline(row), STYLES[HEADING], no_wrap=True, overflow="ellipsis"), layout=False
        )
        self.query_one(FactsPanel).show(facts_of(row))
        packed, counted_on = row.process_state.trees.get(row.model.id), torch_device(device, row)
        if self._summed != (packed, counted_on, row.device_labels):
            self._summed = (packed, counted_on, row.device_labels)
            notice = "No layers are known for this model."
            if row.process_state.may_lack_trees:
                notice = "The layers of this model at this time were not recorded."
            self._show_tree(packed, counted_on, row.device_labels, notice)

    def _show_tree(self, packed: bytes | None, counted_on: str, labels: Mapping[str, str], notice: str) -> None:
        tree = None
        if packed is not None:
            try:
                tree = decode_tree(packed)
            except DecodeError as error:
                notice = f"The layers of this model can't be read: {safe_text(str(error))}."
        self.set_class(tree is None or not tree.names, "-treeless")
        if tree is None or not tree.names:
            self.query_one("#no-tree", Static).update(Text(notice, STYLES[MUTED]))
        else:
            table = self.query_one(LayerTable)
            table.labels = labels
            table.show_layers(sum_layers(tree, counted_on))

    def explanations(self) -> Sequence[explanations.Group]:
        """Explanations of the tree's marks and short titles."""
        from gpumodels_tui.widgets.explanations import LAYERS

        return LAYERS

    def list_widget(self) -> Widget:
        """The tree of layers."""
        return self.query_one(LayerTable)

    def filtered(self) -> None:
        """Show only layers with the words in their paths or classes, and their ancestors."""
        self.query_one(LayerTable).filter(self.words)

    def go_to_match(self, step: int) -> None:
        """Move the cursor to the next match in the tree."""
        self.query_one(LayerTable).go_to_match(step)

    def action_sort(self, step: int) -> None:
        """Sort by the next or the previous order."""
        self.say(f"layers by {self.query_one(LayerTable).sort_next(step)}")

    @on(HeadingClicked)
    def _heading_clicked(self, event: HeadingClicked) -> None:
        self.query_one(LayerTable).sort_by(event.column)

    def action_reverse(self) -> None:
        """Reverse the order of the layers."""
        self.query_one(LayerTable).reverse()

    def action_pane(self) -> None:
        """Move the focus between the facts and the layers."""
        facts = self.query_one(FactsPanel)
        (self.query_one(LayerTable) if facts.has_focus else facts).focus()

    def action_facts(self) -> None:
        """Show all facts in a box."""
        if self._row is not None:
            self.app.push_screen(facts_box(self._row, self.size.width))

    def _find(self, view: View) -> tuple[DeviceRow | None, ModelRow | None]:
        """The model on the device that it was opened on, else on any other device."""
        for device in sorted(view.devices, key=lambda device: device.key != self._device_key):
            for row in device.models:
                if row.key == self._model_key:
                    return device, row
        return None, None


def torch_device(device: DeviceRow, row: ModelRow) -> str:
    """The process's name for the device, which the snapshot's layer trees use."""
    if device.key == HOST:
        return "cpu"
    if (known := next((name for name, key in row.device_keys.items() if key == device.key), None)) is not None:
        return known
    accelerators = [name for name in row.model.bytes_by_device if name != "cpu"]
    if row.model.device is not None and row.model.device != "cpu":
        accelerators.insert(0, row.model.device)
    for name in accelerators:
        if row.model.bytes_by_device.get(name, 0) == row.on_bytes:
            return name
    return accelerators[0] if accelerators else "cpu"
