"""What every full screen has: the view, a line for warnings, the keys below, and a word when there is no room."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.reactive import reactive
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Footer, Static

from gpumodels_shared.safe_text import safe_text
from gpumodels_tui.screens.text_screen import TextScreen
from gpumodels_tui.theme import STYLES, WARNING
from gpumodels_tui.view_model import View
from gpumodels_tui.widgets.notices import LEAST_COLUMNS, LEAST_LINES, counted, no_room


class ViewScreen(Screen[None]):
    """Subclasses compose `content` and draw in `show`."""

    DEFAULT_CSS = """
    ViewScreen #warnings { height: 1; padding: 0 2; display: none; }
    ViewScreen #no-room { height: 1; display: none; }
    ViewScreen.-no-room > * { display: none; }
    ViewScreen.-no-room > #no-room { display: block; }
    ViewScreen.-warned > #warnings { display: block; }
    ViewScreen.-no-room.-warned > #warnings { display: none; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("w", "warnings", "Warnings", show=False, id="view.warnings", tooltip="The list of warnings"),
    ]

    view: reactive[View | None] = reactive(None, repaint=False)

    def content(self) -> Iterator[Widget]:
        """The screen's own widgets, top to bottom."""
        raise NotImplementedError

    def show(self, view: View) -> None:
        """Draw what differs from before."""
        raise NotImplementedError

    def compose(self) -> ComposeResult:
        """The content, and below it what all have."""
        yield from self.content()
        yield Static(id="warnings")
        yield Static(id="no-room")
        yield Footer(show_command_palette=False)

    def watch_view(self, before: View | None, view: View | None) -> None:
        """A newer view, or the first."""
        if view is None or not self.is_mounted:
            return
        self.show(view)
        if before is None or before.warnings != view.warnings:
            self.set_class(bool(view.warnings), "-warned")
            line = Text(f"! {counted(len(view.warnings), 'warning')}: w", STYLES[WARNING])
            self.query_one("#warnings", Static).update(line)
            self.refresh_bindings()

    def on_mount(self) -> None:
        """The view may have come first."""
        self.watch_view(None, self.view)

    def on_resize(self, event: events.Resize) -> None:
        """Too small is said, not drawn badly."""
        columns, lines = event.size
        small = columns < LEAST_COLUMNS or lines < LEAST_LINES
        self.set_class(small, "-no-room")
        if small:
            self.query_one("#no-room", Static).update(no_room(columns, lines))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Without warnings there is no list of them."""
        if action == "warnings":
            return None if self.view is None or not self.view.warnings else True
        return True

    def action_warnings(self) -> None:
        """All of them."""
        if self.view is not None:
            lines = [Text("• " + safe_text(warning)) for warning in self.view.warnings]
            self.app.push_screen(TextScreen("Warnings", lines, closing_key="w", columns=100))
