"""The line in which one types what a list shall show."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Static


class WordsInput(Input):
    """Enter keeps the words, Esc drops them."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "enter", "keep", "Keep", key_display="Enter", id="filter.keep", tooltip="Keep the filter and go back to the list"
        ),
        Binding("escape", "drop", "Clear", key_display="Esc", id="filter.drop", tooltip="Show everything again"),
    ]

    class Left(Message):
        """Typing is over."""

        def __init__(self, keep: bool) -> None:
            super().__init__()
            self.keep = keep

    def action_keep(self) -> None:
        """Back to the list."""
        self.post_message(self.Left(True))

    def action_drop(self) -> None:
        """Back to the whole list."""
        self.post_message(self.Left(False))


class FilterLine(Horizontal):
    """Hidden until it is asked for."""

    DEFAULT_CSS = """
    FilterLine { height: 1; padding: 0 2; display: none; }
    FilterLine.-open { display: block; }
    FilterLine > Static { width: 2; }
    FilterLine > WordsInput { width: 1fr; height: 1; border: none; padding: 0; background: $background; color: $foreground; }
    FilterLine > WordsInput:focus { border: none; background: $background; }
    """

    class Typed(Message):
        """Other words than before."""

        def __init__(self, words: str) -> None:
            super().__init__()
            self.words = words

    def compose(self) -> ComposeResult:
        """A slash and the words."""
        yield Static("/")
        entry = WordsInput(compact=True)
        entry.cursor_blink = False
        yield entry

    @property
    def is_open(self) -> bool:
        """Whether keys are words now."""
        return self.has_class("-open")

    def open(self) -> None:
        """Take the keys."""
        self.add_class("-open")
        self.query_one(WordsInput).focus()

    def close(self, keep: bool) -> None:
        """Hide; without `keep` the words are gone."""
        if not keep:
            self.query_one(WordsInput).value = ""
        self.remove_class("-open")

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while one types."""
        event.stop()
        self.post_message(self.Typed(event.value))
