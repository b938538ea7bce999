"""The keys of the screen that one is on, from its bindings; and what the marks and columns there say."""

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
from gpumodels_tui.widgets.explained import Explained, Group

HERE: Final = "Here"
MOVING: Final = "Moving"
EVERYWHERE: Final = "Everywhere"
GROUPS: Final = {"table": MOVING, "devices": MOVING, "facts": MOVING, "app": EVERYWHERE, "view": EVERYWHERE}
"""By what stands before the dot in a binding's id; others are of the screen alone."""

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
"""As they stand on keyboards: arrows as words, since `<` and `>` are keys too."""

COLUMNS: Final = 76
WIDE_COLUMNS: Final = 108
"""Where the terminal has so many, keys and marks stand side by side."""


def help_screen(app: App[int], bindings: Iterable[ActiveBinding], explained: Sequence[Group] = ()) -> TextScreen:
    """A box with every binding that says what it does; bindings of one meaning are one line, greyed where they can't apply."""
    groups = _grouped(app, bindings)
    blocks = [(len(groups[group]), _keys(group, groups[group])) for group in (HERE, EVERYWHERE, MOVING) if group in groups]
    blocks += [(len(marks), _marks(title, marks)) for title, marks in explained]
    if app.size.width * 92 // 100 < WIDE_COLUMNS:
        return TextScreen("Keys", _apart([block for _, block in blocks]), closing_key="question_mark", columns=COLUMNS)
    beside = Table.grid(padding=(0, 4, 0, 0), expand=True)
    beside.add_column(ratio=1)
    beside.add_column(ratio=1)
    beside.add_row(*(RenderableGroup(*_apart(side)) for side in _sides(blocks)))
    return TextScreen("Keys", [beside], closing_key="question_mark", columns=WIDE_COLUMNS)


def key_name(app: App[int], binding: Binding) -> str:
    """`PgUp`, `Ctrl-P`, `j`, `?`."""
    if binding.key_display:
        return binding.key_display
    if binding.key.startswith("ctrl+"):
        return f"Ctrl-{binding.key.removeprefix('ctrl+').upper()}"
    if re.fullmatch(r"f\d+", binding.key):
        return binding.key.upper()
    return KEY_NAMES.get(binding.key) or app.get_key_display(binding)


def _grouped(app: App[int], bindings: Iterable[ActiveBinding]) -> dict[str, dict[str, tuple[list[str], bool]]]:
    """By group and meaning: the keys, and whether any of them can be used now."""
    groups: dict[str, dict[str, tuple[list[str], bool]]] = {}
    for active in bindings:
        meaning = active.tooltip or active.binding.tooltip
        if not meaning:
            continue
        group = groups.setdefault(GROUPS.get((active.binding.id or "").partition(".")[0], HERE), {})
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


def _marks(title: str, explained: Sequence[Explained]) -> RenderableType:
    table = _table()
    for one in explained:
        table.add_row(Text.assemble(*((mark, STYLES[role]) for mark, role in one.marks)), Text(one.words))
    return RenderableGroup(Text(title, STYLES[HEADING]), table)


def _table() -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, min_width=9)
    table.add_column()
    return table


def _sides(blocks: Sequence[tuple[int, RenderableType]]) -> tuple[list[RenderableType], list[RenderableType]]:
    """Each block, of so many lines, where there are fewer so far."""
    sides: tuple[list[RenderableType], list[RenderableType]] = ([], [])
    lines = [0, 0]
    for count, block in blocks:
        side = 0 if lines[0] <= lines[1] else 1
        sides[side].append(block)
        lines[side] += count + 2
    return sides


def _apart(blocks: Sequence[RenderableType]) -> list[RenderableType]:
    """A blank line between two."""
    return [part for block in blocks for part in (Text(""), block)][1:]
