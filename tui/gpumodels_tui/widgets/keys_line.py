"""The keys that a screen offers, on its last line."""

from __future__ import annotations

from textual.widgets import Footer


class KeysLine(Footer):
    """On the screen's own ground."""

    DEFAULT_CSS = "KeysLine { background: $background; padding: 0 1; }"
