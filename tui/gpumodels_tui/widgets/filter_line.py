"""The line in which the words of a filter are typed."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Input, Static

from gpumodels_tui.widgets.filter_words import TypingLeft, WordsTyped
from gpumodels_tui.widgets.one_line import appear
from gpumodels_tui.widgets.plain_input import PlainInput


class WordsInput(PlainInput):
    """Enter and the keys that move the focus keep the words; Esc clears them."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "enter,down,tab,shift+tab",
            "keep",
            "Keep",
            key_display="Enter",
            id="filter.keep",
            tooltip="Keep the filter and go back to the list",
        ),
        Binding("escape", "drop", "Clear", key_display="Esc", id="filter.drop", tooltip="Clear the filter"),
    ]

    def action_keep(self) -> None:
        """Return to the filtered list."""
        self.post_message(TypingLeft(True))

    def action_drop(self) -> None:
        """Clear the filter, and return to the list."""
        self.post_message(TypingLeft(False))


class FilterLine(Horizontal):
    """The filter line; it is visible only while it is open."""

    DEFAULT_CSS = """
    FilterLine { height: 1; padding: 0 2; }
    FilterLine > Static { width: 2; }
    FilterLine > WordsInput { width: 1fr; height: 1; border: none; padding: 0; background: $background; color: $foreground; }
    FilterLine > WordsInput:focus { border: none; background: $background; }
    """

    def compose(self) -> ComposeResult:
        """A slash and the input for the words."""
        yield Static("/")
        yield WordsInput()

    def open(self) -> None:
        """Show the line, and move the focus to it."""
        appear(self, True)
        self.query_one(WordsInput).focus()

    def close(self, keep: bool) -> None:
        """Hide the line; without `keep`, clear its words."""
        if not keep:
            self.query_one(WordsInput).value = ""
        appear(self, False)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter the list while the user types."""
        event.stop()
        self.post_message(WordsTyped(event.value))
