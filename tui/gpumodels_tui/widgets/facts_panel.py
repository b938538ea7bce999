"""Facts as labelled lines: one line each if there is little room, otherwise wrapped."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar, Final

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from gpumodels_tui.theme import HEADING, MUTED, STYLES
from gpumodels_tui.view.model_facts import Fact
from gpumodels_tui.widgets.cells import ending, shortened

STEPS: Final = "One line up or down"
ENDS: Final = "To the beginning or the end"


class FactsPanel(VerticalScroll):
    """A list of facts, drawn again only if they or the width change. While it has the focus, all facts can be scrolled."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "scroll_up", "Up", show=False, id="facts.up", tooltip=STEPS),
        Binding("down,j", "scroll_down", "Down", show=False, id="facts.down", tooltip=STEPS),
        Binding("home,g", "scroll_home", "First", show=False, id="facts.first", tooltip=ENDS),
        Binding("end,G", "scroll_end", "Last", show=False, id="facts.last", tooltip=ENDS),
    ]

    DEFAULT_CSS = """
    FactsPanel { height: auto; padding: 0 2; scrollbar-size-vertical: 1; }
    FactsPanel > Static { height: auto; }
    FactsPanel:focus { background-tint: transparent 0%; }
    """

    def __init__(self, *, wrap: bool = False, most: int = 0, id: str | None = None) -> None:
        """Args:
        wrap: Whether values may take several lines.
        most: How many facts are shown without the focus; 0 for all.
        """
        super().__init__(id=id)
        self.wrap = wrap
        self.most = most
        self._facts: tuple[Fact, ...] = ()
        self._lines = -1
        self._drawn: tuple[tuple[Fact, ...], int, bool, int] | None = None

    def compose(self) -> ComposeResult:
        """The facts as one block of text."""
        yield Static()

    def show(self, facts: Sequence[Fact]) -> None:
        """Draw the facts if they differ from those shown."""
        self._facts = tuple(facts)
        self._draw()

    def watch_has_focus(self, has_focus: bool) -> None:
        """Show all facts with the focus, otherwise the first ones."""
        super().watch_has_focus(has_focus)
        self._draw()
        if not has_focus:
            self.scroll_home(animate=False)

    def on_resize(self) -> None:
        """Fit the facts to the new width."""
        self._draw()

    def _draw(self) -> None:
        width = self.scrollable_content_region.width
        wanted = (self._facts, width, self.wrap, 0 if self.has_focus else self.most)
        if wanted == self._drawn or width <= 0:
            return
        self._drawn = wanted
        shown = self._facts[: self.most] if self.most and not self.has_focus else self._facts
        # While the number of lines stays the same, no new layout is needed.
        same = not self.wrap and self._lines == len(shown)
        self._lines = len(shown)
        self.query_one(Static).update(facts_table(shown, width, self.wrap), layout=not same)


def facts_table(facts: Sequence[Fact], width: int, wrap: bool) -> Table:
    """Labels and values in two columns without rules. With `wrap`, both may take several lines."""
    labels = min(max((cell_len(fact.label) for fact in facts), default=0), max(width * 2 // 5, 8))
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=labels, no_wrap=not wrap, overflow="fold")
    table.add_column(ratio=1, no_wrap=not wrap, overflow="fold")
    for fact in facts:
        label = fact.label if wrap else shortened(fact.label, labels)
        value = (_lines if wrap else _one_line)(fact, max(width - labels - 2, 1))
        table.add_row(Text(label, STYLES[MUTED]), Text(value))
    return table


def headed(title: str) -> Text:
    """A heading for a list of facts."""
    return Text(title, STYLES[HEADING])


def _lines(fact: Fact, width: int) -> str:
    """The fact's value; a path is broken into lines after its slashes if possible, and its size isn't broken."""
    if not fact.is_path:
        return fact.value
    path, gap, size = fact.value.partition("  ")
    lines = [""]
    for piece in (*re.findall(r"[^/]*/|[^/]+$", path), *([gap + size] if size else [])):
        if cell_len(lines[-1] + piece) > width and lines[-1]:
            lines.append("")
        lines[-1] += piece if lines[-1] else piece.lstrip()
    return "\n".join(lines)


def _one_line(fact: Fact, width: int) -> str:
    if not fact.is_path or cell_len(fact.value) <= width:
        return shortened(fact.value, width)
    return ending(fact.value, width)
