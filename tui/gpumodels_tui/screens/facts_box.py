"""The box with all facts about a model, alone or in several ranks, or about a process without a sidecar: `i` on every screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import RenderableType
from rich.text import Text

from gpumodels_tui.screens.text_screen import TextScreen
from gpumodels_tui.view.model_facts import facts_of, raw_metadata
from gpumodels_tui.view.process_facts import facts_of_unattached
from gpumodels_tui.view.process_rows import UnattachedRow
from gpumodels_tui.view.rank_groups import RankGroup, facts_of_group
from gpumodels_tui.view.rows import ModelRow
from gpumodels_tui.widgets.facts_panel import facts_table, headed

COLUMNS: Final = 100
KEY: Final = "i"
MEANING: Final = "All facts, and the files' raw metadata"


def facts_box(row: ModelRow | UnattachedRow | RankGroup, screen_columns: int) -> TextScreen:
    """The box, for a screen of this width."""
    width = width_inside(COLUMNS, screen_columns)
    if isinstance(row, UnattachedRow):
        return TextScreen("Facts", [facts_table(facts_of_unattached(row), width, wrap=True)], closing_key=KEY, columns=COLUMNS)
    if isinstance(row, RankGroup):
        return TextScreen("Facts", [facts_table(facts_of_group(row), width, wrap=True)], closing_key=KEY, columns=COLUMNS)
    return TextScreen("Facts", model_blocks(row, width), closing_key=KEY, columns=COLUMNS)


def model_blocks(row: ModelRow, width: int) -> Sequence[RenderableType]:
    """What the box says of a model."""
    blocks: list[RenderableType] = [facts_table(facts_of(row), width, wrap=True)]
    if raw := raw_metadata(row):
        blocks += [Text(""), headed("Raw metadata from the files"), facts_table(raw, width, wrap=True)]
    return blocks


def width_inside(box_columns: int, screen_columns: int) -> int:
    """The columns for the text in a box of this width, which is never wider than the screen."""
    return min(screen_columns * 92 // 100, box_columns) - 6
