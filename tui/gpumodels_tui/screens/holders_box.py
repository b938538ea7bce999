"""The box that says who holds a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from gpumodels_tui.screens.asking_box import AskingBox
from gpumodels_tui.sources.asking import ask_why
from gpumodels_tui.sources.global_lines import with_lines
from gpumodels_tui.view.device_names import process_title
from gpumodels_tui.view.holders import cost_of, lines_of

if TYPE_CHECKING:
    from gpumodels_tui.view.rows import ModelRow

KEY: Final = "h"


class HoldersBox(AskingBox):
    """Asks the model's process."""

    def __init__(self, row: ModelRow) -> None:
        """Args:
        row: the model.
        """
        super().__init__(f"Who holds {row.name}", row.process_state, KEY)
        self._row = row

    def answer(self, searching: Callable[[float], None]) -> list[str]:
        """The chains of references that hold the model."""
        process = self._row.process_state
        found = with_lines(ask_why(process.path, self._row.model.id, searching), process)
        return [f"In {process_title(process)}, the shortest ways first:", "", *lines_of(found), "", cost_of(found)]
