"""The last line of a screen, which shows its keys."""

from __future__ import annotations

from typing import Final

from textual import events
from textual.widgets import Footer

COLUMNS_FOR_GAPS: Final = 72
"""On narrower screens the gaps between keys are smaller, so that all keys fit."""


class KeysLine(Footer):
    """A footer with the screen's own background."""

    DEFAULT_CSS = "KeysLine { background: $background; padding: 0 1; }"

    def on_resize(self, event: events.Resize) -> None:
        """Use smaller gaps on a narrow screen."""
        self.compact = event.size.width < COLUMNS_FOR_GAPS
