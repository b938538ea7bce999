"""The box that says who holds a model. Its process is asked in a thread of its own, once, because the user asked."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.widgets import Static

from gpumodels_tui.screens.text_screen import TextScreen
from gpumodels_tui.sources.asking import NoAnswerError, ask_why
from gpumodels_tui.sources.global_lines import with_lines
from gpumodels_tui.view.device_names import process_title
from gpumodels_tui.view.holders import cost_of, in_milliseconds, lines_of

if TYPE_CHECKING:
    from gpumodels_tui.view.rows import ModelRow

KEY: Final = "h"
COLUMNS: Final = 108
OFF: Final = "This process doesn't answer: GPUMODELS_ASK=0 is set there, or its sidecar is an older one."
ASKING: Final = "Asking …"


class HoldersBox(TextScreen):
    """Filled once the answer is there."""

    def __init__(self, row: ModelRow) -> None:
        """Args:
        row: the model.
        """
        super().__init__(f"Who holds {row.name}", [Text(ASKING)], closing_key=KEY, columns=COLUMNS)
        self._row = row
        self._text = Static(ASKING, markup=False)

    def compose(self) -> ComposeResult:
        """The text in a frame."""
        with Vertical() as frame:
            frame.styles.width = COLUMNS
            frame.border_title = Text(self._heading).markup
            with VerticalScroll(can_focus=False):
                yield self._text

    def on_mount(self) -> None:
        """Ask."""
        snapshot = self._row.process_state.snapshot
        if snapshot is None or not snapshot.process.answers:
            self._say([OFF])
            return
        self.run_worker(self._ask, thread=True)

    def _ask(self) -> None:
        process = self._row.process_state
        try:
            found = ask_why(process.path, self._row.model.id, partial(self.app.call_from_thread, self._searching))
            found = with_lines(found, process)
            lines = [f"In {process_title(process)}, the shortest ways first:", "", *lines_of(found), "", cost_of(found)]
        except NoAnswerError as error:
            lines = [f"{str(error)[:1].upper()}{str(error)[1:]}."]
        self.app.call_from_thread(self._say, lines)

    def _searching(self, seconds: float) -> None:
        self._say([f"Searching; this holds the process's interpreter for {in_milliseconds(seconds)} at a time …"])

    def _say(self, lines: list[str]) -> None:
        if self.is_attached:  # it may have been closed meanwhile
            self._text.update(Text("\n".join(lines)))
