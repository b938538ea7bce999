"""The help for a screen: its keys, generated from the bindings, and explanations of its marks and columns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from rich.console import Group as RenderableGroup
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text
from textual.app import App
from textual.binding import ActiveBinding, Binding

from gpumodels_tui.screens.text_screen import TextScreen
from gpumodels_tui.theme import ACCENT, HEADING, MUTED, STYLES
from gpumodels_tui.widgets.explanations import Explanation, Group

THIS_SCREEN: Final = "This screen"
NAVIGATION: Final = "Navigation"
ALL_SCREENS: Final = "All screens"
REPLAY: Final = "Replay"
GROUPS: Final = {
    "table": NAVIGATION,
    "devices": NAVIGATION,
    "facts": NAVIGATION,
    "app": ALL_SCREENS,
    "view": ALL_SCREENS,
    "replay": REPLAY,
}
"""Headings by the part of a binding's id before the dot; all others are under `THIS_SCREEN`."""

KEY_NAMES: Final = {
    "up": "Up",
    "down": "Down",
    "left": "Left",
    "right": "Right",
    "pageup": "PgUp",
    "pagedown": "PgDn",
    "home": "Home",
    "end": "End",
    "enter": "Enter",
    "escape": "Esc",
    "tab": "Tab",
    "shift+tab": "Shift-Tab",
    "space": "Space",
}
"""Names as printed on keyboards; arrows are words, since `<` and `>` are keys too."""

COLUMNS: Final = 76
WIDE_COLUMNS: Final = 108
"""The width of the box if the terminal is wide enough to have keys and marks side by side."""


def help_screen(app: App[int], bindings: Iterable[ActiveBinding], explained: Sequence[Group] = ()) -> TextScreen:
    """A box with all bindings that have a tooltip; those with the same one share a line, which is dim if they are disabled."""
    groups = _grouped(app, bindings)
    ordered = [group for group in (REPLAY, THIS_SCREEN, ALL_SCREENS, NAVIGATION) if group in groups]
    blocks = [(len(groups[group]), _keys(group, groups[group])) for group in ordered]
    blocks += [(len(marks), _marks(title, marks)) for title, marks in explained]
    if app.size.width * 92 // 100 < WIDE_COLUMNS:
        return TextScreen("Keys", _with_blank_lines([block for _, block in blocks]), closing_key="question_mark", columns=COLUMNS)
    beside = Table.grid(padding=(0, 4, 0, 0), expand=True)
    beside.add_column(ratio=1)
    beside.add_column(ratio=1)
    beside.add_row(*(RenderableGroup(*_with_blank_lines(side)) for side in _two_columns(blocks)))
    return TextScreen("Keys", [beside], closing_key="question_mark", columns=WIDE_COLUMNS)


def key_name(app: App[int], binding: Binding) -> str:
    """The key's name for people: `PgUp`, `Ctrl-P`, `j`, `?`."""
    if binding.key_display:
        return binding.key_display
    if binding.key.startswith("ctrl+"):
        return f"Ctrl-{binding.key.removeprefix('ctrl+').upper()}"
    if re.fullmatch(r"f\d+", binding.key):
        return binding.key.upper()
    return KEY_NAMES.get(binding.key) or app.get_key_display(binding)


def _grouped(app: App[int], bindings: Iterable[ActiveBinding]) -> dict[str, dict[str, tuple[list[str], bool]]]:
    """By group and meaning: the keys, and whether any of them is enabled."""
    groups: dict[str, dict[str, tuple[list[str], bool]]] = {}
    for active in bindings:
        meaning = active.tooltip or active.binding.tooltip
        if not meaning:
            continue
        group = groups.setdefault(GROUPS.get((active.binding.id or "").partition(".")[0], THIS_SCREEN), {})
        keys, enabled = group.get(meaning, ([], False))
        shown = key_name(app, active.binding)
        group[meaning] = (keys if shown in keys else [*keys, shown], enabled or active.enabled)
    return groups


def _keys(title: str, meanings: dict[str, tuple[list[str], bool]]) -> RenderableType:
    table = _table()
    for meaning, (keys, enabled) in meanings.items():
        ordered = sorted(keys, key=lambda key: key.startswith("Ctrl-"))
        style = STYLES[ACCENT] if enabled else STYLES[MUTED]
        table.add_row(Text(" ".join(ordered), style), Text(meaning, STYLES["" if enabled else MUTED]))
    return RenderableGroup(Text(title, STYLES[HEADING]), table)


def _marks(title: str, explained: Sequence[Explanation]) -> RenderableType:
    table = _table()
    for one in explained:
        table.add_row(Text.assemble(*((mark, STYLES[role]) for mark, role in one.marks)), Text(one.words))
    return RenderableGroup(Text(title, STYLES[HEADING]), table)


def _table() -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, min_width=9)
    table.add_column()
    return table


def _two_columns(blocks: Sequence[tuple[int, RenderableType]]) -> tuple[list[RenderableType], list[RenderableType]]:
    """Distribute blocks, given with their numbers of lines, to the column with fewer lines so far."""
    sides: tuple[list[RenderableType], list[RenderableType]] = ([], [])
    lines = [0, 0]
    for count, block in blocks:
        side = 0 if lines[0] <= lines[1] else 1
        sides[side].append(block)
        lines[side] += count + 2
    return sides


def _with_blank_lines(blocks: Sequence[RenderableType]) -> list[RenderableType]:
    """The blocks with a blank line between two of them."""
    return [part for block in blocks for part in (Text(""), block)][1:]
