"""A box with what a process answers. It is asked in a thread of its own, once, because the user asked."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from gpumodels_tui.screens.later_box import LaterBox
from gpumodels_tui.sources.asking import NoAnswerError
from gpumodels_tui.view.holders import in_milliseconds

if TYPE_CHECKING:
    from gpumodels_tui.sources.feed import ProcessState

OFF: Final = "This process doesn't answer: GPUMODELS_ASK=0 is set there, or its sidecar is an older one."
ASKING: Final = "Asking …"


class AskingBox(LaterBox):
    """Filled once the answer is there."""

    def __init__(self, title: str, process: ProcessState, closing_key: str) -> None:
        """Args:
        title: shown on the frame.
        process: who is asked.
        closing_key: the key that opened the box, and also closes it.
        """
        super().__init__(title, ASKING, closing_key)
        self._process = process

    @abstractmethod
    def answer(self, searching: Callable[[float], None]) -> list[str]:
        """Ask, in a thread, and return what is to be shown.

        Args:
            searching: to be told for how long the search will hold the process's interpreter at once, in seconds, about.

        Raises:
            NoAnswerError: there is no answer.
        """

    def on_mount(self) -> None:
        """Ask."""
        snapshot = self._process.snapshot
        if snapshot is None or not snapshot.process.answers:
            self._say([OFF])
            return
        self.run_worker(self._ask, thread=True)

    def _ask(self) -> None:
        try:
            lines = self.answer(partial(self.app.call_from_thread, self._searching))
        except NoAnswerError as error:
            lines = [f"{str(error)[:1].upper()}{str(error)[1:]}."]
        self.app.call_from_thread(self._say, lines)

    def _searching(self, seconds: float) -> None:
        self._say([f"Searching; this holds the process's interpreter for {in_milliseconds(seconds)} at a time …"])

    def _say(self, lines: list[str]) -> None:
        self.fill("\n".join(lines))
