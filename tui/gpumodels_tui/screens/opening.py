"""What stands there for the moment in which the first screen is loaded: something is on the terminal as soon as Textual is."""

from __future__ import annotations

from collections.abc import Callable

from textual.app import ComposeResult
from textual.screen import Screen
from textual.widgets import Static


class OpeningScreen(Screen[None]):
    """One line."""

    DEFAULT_CSS = """
    OpeningScreen > Static { padding: 1 2; }
    """

    def __init__(self, opened: Callable[[], object]) -> None:
        """Args:
        opened: Called once it is drawn.
        """
        super().__init__()
        self._opened = opened

    def compose(self) -> ComposeResult:
        """The line."""
        yield Static("gpumodels: looking for models…", markup=False)

    def on_mount(self) -> None:
        """The rest begins when this stands on the terminal."""
        self.call_after_refresh(self._opened)
