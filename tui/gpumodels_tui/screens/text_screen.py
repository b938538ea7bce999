"""A box of text on top of another screen: warnings, facts or help."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from rich.console import Group, RenderableType
from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

FRAME_LINES: Final = 6
"""Lines taken by the frame and by a blank line inside and outside of it, both above and below."""


class TextScreen(ModalScreen[None]):
    """Scrolls if the text is longer than the screen; closed by Esc or by the key that opened it."""

    DEFAULT_CSS = """
    TextScreen { align: center middle; }
    TextScreen > Vertical {
        max-width: 92%; height: auto;
        border: round $primary; border-title-style: bold; padding: 1 1; background: $background;
    }
    TextScreen VerticalScroll { width: 1fr; height: auto; scrollbar-size-vertical: 1; }
    TextScreen VerticalScroll > Static { width: 1fr; height: auto; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Close", id="text.close", tooltip="Close this box"),
        # The application's bindings don't apply on a modal screen.
        Binding("q", "app.quit", "Quit", show=False, id="text.quit", tooltip="Quit"),
        Binding("up,k", "scroll(-1)", "Up", show=False, id="text.up", tooltip="One line up"),
        Binding("down,j", "scroll(1)", "Down", show=False, id="text.down", tooltip="One line down"),
        Binding("pageup", "scroll(-10)", "Page up", show=False, id="text.page_up", tooltip="One page up"),
        Binding("pagedown", "scroll(10)", "Page down", show=False, id="text.page_down", tooltip="One page down"),
        Binding("home,g", "scroll(-100000)", "First", show=False, id="text.first", tooltip="To the beginning"),
        Binding("end,G", "scroll(100000)", "Last", show=False, id="text.last", tooltip="To the end"),
    ]

    def __init__(self, title: str, blocks: Sequence[RenderableType], closing_key: str, columns: int = 76) -> None:
        """Args:
        title: Shown on the frame.
        blocks: The contents from top to bottom; names must be Text, never markup.
        closing_key: The key that opened the box, and also closes it.
        columns: The width of the box with its frame; it is never wider than the terminal.
        """
        super().__init__()
        self._heading = title
        self._blocks = tuple(blocks)
        self._box_columns = columns
        self._bindings.bind(closing_key, "dismiss", "Close", show=False)

    def compose(self) -> ComposeResult:
        """The text in a frame."""
        with Vertical() as frame:
            frame.styles.width = self._box_columns
            frame.border_title = Text(self.title_said()).markup
            with VerticalScroll(can_focus=False):
                yield Static(Group(*self._blocks))

    def title_said(self) -> str:
        """The title, with what the application says of itself: `REPLAY` of one that doesn't show the present."""
        state = self.app.sub_title
        return f"{state}: {self._heading}" if state else self._heading

    def on_resize(self, event: events.Resize) -> None:
        """Limit the text's height, so that the frame and its blank lines fit too."""
        self.query_one(VerticalScroll).styles.max_height = max(event.size.height - FRAME_LINES, 1)
        self.call_after_refresh(self._show_keys)

    def on_click(self, event: events.Click) -> None:
        """Close the box on a click outside of it."""
        if not self.query_one(Vertical).region.contains(event.screen_x, event.screen_y):
            self.dismiss()

    def action_scroll(self, lines: int) -> None:
        """Scroll down by this many lines; up if it is negative."""
        self.query_one(VerticalScroll).scroll_relative(y=lines, animate=False)

    def _show_keys(self) -> None:
        scrolls = self.query_one(VerticalScroll).max_scroll_y > 0
        self.query_one(Vertical).border_subtitle = "Up and Down scroll, Esc closes" if scrolls else "Esc closes"
