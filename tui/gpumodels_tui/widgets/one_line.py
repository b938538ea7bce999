"""One line of text; and how a widget is left out, and comes back."""

from __future__ import annotations

from rich.text import Text
from textual.widget import Widget
from textual.widgets import Static


class OneLine(Static):
    """Says the same thing again for nothing."""

    DEFAULT_CSS = "OneLine { height: 1; padding: 0 2; }"

    def say(self, line: Text) -> None:
        """Another line; nothing else moves for it."""
        if self.content != line:
            self.update(line, layout=False)


def appear(widget: Widget, is_there: bool) -> None:
    """Whether it has room on the screen. A class on the screen would have every widget's style looked up anew."""
    widget.styles.display = None if is_there else "none"
