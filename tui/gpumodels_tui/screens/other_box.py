"""The box that says what else a process has in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from gpumodels_tui.screens.asking_box import AskingBox
from gpumodels_tui.sources.asking import ask_other
from gpumodels_tui.view.device_names import process_title
from gpumodels_tui.view.other_memory import cost_of_other, lines_of_other

if TYPE_CHECKING:
    from gpumodels_tui.sources.feed import ProcessState

KEY: Final = "o"


class OtherBox(AskingBox):
    """Asks the process."""

    def __init__(self, process: ProcessState) -> None:
        """Args:
        process: who is asked.
        """
        super().__init__(f"What else {process_title(process)} has in memory", process, KEY)

    def answer(self, searching: Callable[[float], None]) -> list[str]:
        """What is there beside models, by device."""
        found = ask_other(self._process.path, searching)
        return [*lines_of_other(found), "", cost_of_other(found)]
