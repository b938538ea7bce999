"""The keys of the screen that one is on, from its bindings."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text
from textual.app import App
from textual.binding import ActiveBinding

from gpumodels_tui.screens.text_screen import TextScreen
from gpumodels_tui.theme import ACCENT, MUTED, STYLES


def help_screen(app: App[int], bindings: Iterable[ActiveBinding]) -> TextScreen:
    """A box with every binding that says what it does; bindings of one meaning are one line, greyed where they can't apply."""
    keys: dict[str, list[str]] = {}
    enabled: dict[str, bool] = {}
    for active in bindings:
        meaning = active.tooltip or active.binding.tooltip
        if not meaning:
            continue
        shown = app.get_key_display(active.binding)
        if shown not in keys.setdefault(meaning, []):
            keys[meaning].append(shown)
        enabled[meaning] = enabled.get(meaning, False) or active.enabled
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    for meaning, displays in keys.items():
        style = STYLES[ACCENT] if enabled[meaning] else STYLES[MUTED]
        table.add_row(Text(" ".join(displays), style), Text(meaning, STYLES[""] if enabled[meaning] else STYLES[MUTED]))
    return TextScreen("Keys", [table], closing_key="question_mark")
