"""The keys that a screen offers, on its last line."""

from __future__ import annotations

from typing import Final

from textual import events
from textual.widgets import Footer

COLUMNS_FOR_GAPS: Final = 72
"""Below it the keys stand closer together, so that all of them have room."""


class KeysLine(Footer):
    """On the screen's own ground."""

    DEFAULT_CSS = "KeysLine { background: $background; padding: 0 1; }"

    def on_resize(self, event: events.Resize) -> None:
        """Closer together on a narrow screen."""
        self.compact = event.size.width < COLUMNS_FOR_GAPS
