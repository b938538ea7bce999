"""The last line of a screen, which shows its keys."""

from __future__ import annotations

from typing import Any, Final

from textual import events
from textual.app import ComposeResult
from textual.screen import Screen
from textual.widgets import Footer

COLUMNS_FOR_GAPS: Final = 72
"""On narrower screens the gaps between keys are smaller, so that all keys fit."""

Keys = tuple[tuple[str, str, bool], ...]
"""Of each key in the line: its name, what it does, and whether it can be pressed now."""


class KeysLine(Footer):
    """A footer with the screen's own background, composed anew only when it would show something else.

    Textual announces the keys whenever the focus moves, and composing the line costs more than the rest of such a key press.
    """

    DEFAULT_CSS = "KeysLine { background: $background; padding: 0 1; }"

    _composed: Keys | None = None
    """What the line was last composed for; None before keys were announced for the first time."""

    def bindings_changed(self, screen: Screen[Any]) -> None:
        """Compose the line anew if its keys differ from those shown."""
        if self._composed is None or self._composed != _keys(screen):
            self._composed = self._composed or ()
            super().bindings_changed(screen)

    def compose(self) -> ComposeResult:
        if self._composed is not None:
            self._composed = _keys(self.screen)
        yield from super().compose()

    def on_resize(self, event: events.Resize) -> None:
        """Use smaller gaps on a narrow screen."""
        self.compact = event.size.width < COLUMNS_FOR_GAPS


def _keys(screen: Screen[Any]) -> Keys:
    active = screen.active_bindings.values()
    return tuple((binding.key, binding.description, enabled) for _, binding, enabled, _ in active if binding.show)
