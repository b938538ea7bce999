"""A box whose text comes later, from another thread."""

from __future__ import annotations

from typing import Final

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.widgets import Static

from gpumodels_tui.screens.text_screen import TextScreen

COLUMNS: Final = 108


class LaterBox(TextScreen):
    """Says what is going on, until `fill` replaces it."""

    def __init__(self, title: str, meanwhile: str, closing_key: str) -> None:
        """Args:
        title: Shown on the frame.
        meanwhile: What is said until then.
        closing_key: The key that opened the box, and also closes it.
        """
        super().__init__(title, [Text(meanwhile)], closing_key=closing_key, columns=COLUMNS)
        self._text = Static(meanwhile, markup=False)

    def compose(self) -> ComposeResult:
        """The text in a frame."""
        with Vertical() as frame:
            frame.styles.width = COLUMNS
            frame.border_title = Text(self.title_said()).markup
            with VerticalScroll(can_focus=False):
                yield self._text

    def on_mount(self) -> None:
        """Say that the text scrolls once it is laid out, which is later than its first refresh."""
        self.screen_layout_refresh_signal.subscribe(self, lambda _: self._show_keys())

    def fill(self, text: str) -> None:
        """Replace the text; nothing happens if the box was closed meanwhile."""
        if self.is_attached:
            self._text.update(Text(text))
