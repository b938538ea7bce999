"""The line in which one types what a list shall show."""

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
    """Enter keeps the words, and so do the keys that lead away; Esc drops them."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "enter,down,tab,shift+tab",
            "keep",
            "Keep",
            key_display="Enter",
            id="filter.keep",
            tooltip="Keep the filter and go back to the list",
        ),
        Binding("escape", "drop", "Clear", key_display="Esc", id="filter.drop", tooltip="Show everything again"),
    ]

    def action_keep(self) -> None:
        """Back to the list."""
        self.post_message(TypingLeft(True))

    def action_drop(self) -> None:
        """Back to the whole list."""
        self.post_message(TypingLeft(False))


class FilterLine(Horizontal):
    """There while it is open."""

    DEFAULT_CSS = """
    FilterLine { height: 1; padding: 0 2; }
    FilterLine > Static { width: 2; }
    FilterLine > WordsInput { width: 1fr; height: 1; border: none; padding: 0; background: $background; color: $foreground; }
    FilterLine > WordsInput:focus { border: none; background: $background; }
    """

    def compose(self) -> ComposeResult:
        """A slash and the words."""
        yield Static("/")
        yield WordsInput()

    def open(self) -> None:
        """Take the keys."""
        appear(self, True)
        self.query_one(WordsInput).focus()

    def close(self, keep: bool) -> None:
        """Hide; without `keep` the words are gone."""
        if not keep:
            self.query_one(WordsInput).value = ""
        appear(self, False)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while one types."""
        event.stop()
        self.post_message(WordsTyped(event.value))
