"""A widget with one line of text, and a function that shows or hides a widget."""

from __future__ import annotations

from rich.text import Text
from textual.widget import Widget
from textual.widgets import Static


class OneLine(Static):
    """A line of text, drawn again only if the text changes."""

    DEFAULT_CSS = "OneLine { height: 1; padding: 0 2; }"

    def say(self, line: Text) -> None:
        """Show another text, without a new layout of the screen."""
        if self.content is not line and self.content != line:
            self.update(line, layout=False)


def appear(widget: Widget, is_there: bool) -> None:
    """Show or hide the widget. Setting a CSS class on the screen instead would recompute the styles of all widgets."""
    widget.styles.display = None if is_there else "none"
