"""The palette: a list of models, processes, themes and commands, filtered while typing."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input

from gpumodels_shared.safe_text import safe_text
from gpumodels_tui.theme import ACCENT, MUTED
from gpumodels_tui.widgets.cells import text
from gpumodels_tui.widgets.columns import Column
from gpumodels_tui.widgets.line_table import LineTable
from gpumodels_tui.widgets.plain_input import PlainInput
from gpumodels_tui.widgets.table_messages import RowOpened


@dataclass(frozen=True, slots=True)
class Choice:
    """One entry of the palette."""

    name: str
    hint: str
    """A short description, such as a model's kind and device."""
    run: Callable[[], object]


class ChoiceTable(LineTable[Choice]):
    """The list of choices; it never has the focus, which belongs to the input."""

    def __init__(self) -> None:
        super().__init__(
            [
                Column("", lambda choice, _: text(safe_text(choice.name)), least=24, most=36, importance=9),
                Column("", lambda choice, _: text(safe_text(choice.hint), MUTED if choice.hint else ACCENT), least=20, most=60),
            ],
            headed=False,
        )

    def key_of(self, row: Choice) -> Hashable:
        """The choice's name and hint."""
        return (row.name, row.hint)


class PaletteScreen(ModalScreen[Choice]):
    """Returns the choice under the cursor on Enter, and none on Esc."""

    AUTO_FOCUS = "Input"

    DEFAULT_CSS = """
    PaletteScreen { align: center top; }
    PaletteScreen > Vertical {
        width: 76; max-width: 96%; height: 80%; margin-top: 1;
        border: round $primary; border-title-style: bold; padding: 0 1; background: $background;
    }
    PaletteScreen Input { height: 1; border: none; padding: 0 2; margin-bottom: 1; background: $background; color: $foreground; }
    PaletteScreen Input:focus { border: none; background: $background; }
    PaletteScreen ChoiceTable { height: 1fr; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,ctrl+p", "dismiss", "Close", key_display="Esc", id="palette.close", tooltip="Close the palette"),
        Binding("up", "move(-1)", "Up", show=False, id="palette.up", tooltip="Previous choice", priority=True),
        Binding("down", "move(1)", "Down", show=False, id="palette.down", tooltip="Next choice", priority=True),
        Binding("pageup", "move(-10)", "Page up", show=False, id="palette.page_up", tooltip="Ten up", priority=True),
        Binding("pagedown", "move(10)", "Page down", show=False, id="palette.page_down", tooltip="Ten down", priority=True),
    ]

    def __init__(self, choices: Sequence[Choice]) -> None:
        """Args:
        choices: In the order in which they are shown before anything is typed.
        """
        super().__init__()
        self._choices = tuple(choices)

    def compose(self) -> ComposeResult:
        """The input, and the matching choices below it."""
        with Vertical() as frame:
            frame.border_title = "Go to"
            frame.border_subtitle = "Enter selects, Esc closes"
            yield PlainInput("a model, process, theme or command")
            yield ChoiceTable()

    def on_mount(self) -> None:
        """Show all choices at first."""
        table = self.query_one(ChoiceTable)
        table.light(True)
        table.can_focus = False
        table.show(self._choices)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show the choices that contain all words; those with the words in their names come first."""
        words = event.value.casefold().split()
        table = self.query_one(ChoiceTable)
        found = [choice for choice in self._choices if all(word in f"{choice.name}\n{choice.hint}".casefold() for word in words)]
        if words:
            found.sort(key=lambda choice: _match_rank(choice.name.casefold(), words))
        table.show(found)
        table.action_first()

    def on_click(self, event: events.Click) -> None:
        """Close the palette on a click outside of it."""
        if not self.query_one(Vertical).region.contains(event.screen_x, event.screen_y):
            self.dismiss()

    def on_input_submitted(self) -> None:
        """Return the choice under the cursor."""
        self.dismiss(self.query_one(ChoiceTable).cursor_row)

    @on(RowOpened)
    def _clicked(self) -> None:
        self.dismiss(self.query_one(ChoiceTable).cursor_row)

    def action_move(self, rows: int) -> None:
        """Move the cursor by this many rows."""
        self.query_one(ChoiceTable).action_move(rows)


def _match_rank(name: str, words: Sequence[str]) -> tuple[bool, bool]:
    return (not all(word in name for word in words), not name.startswith(words[0]))
