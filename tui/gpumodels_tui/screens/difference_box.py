"""The box that says what differs between the moment before an event and the one that is shown."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Final

from textual.binding import Binding, BindingType

from gpumodels_tui.clipboard import what_it_needs
from gpumodels_tui.comparing.differences import Difference, difference
from gpumodels_tui.comparing.report import as_markdown, as_text
from gpumodels_tui.moments import UnknownMomentError
from gpumodels_tui.screens.later_box import LaterBox

if TYPE_CHECKING:
    from gpumodels_tui.comparing.documents import Document

KEY: Final = "d"
COMPARING: Final = "Comparing …"
COPIED: Final = "Sent to the terminal's clipboard as Markdown, if it takes it."
KEYS: Final = "y copies it as Markdown."


class DifferenceBox(LaterBox):
    """Filled once both moments are read: those of a recording may take a while."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "copy", "Copy", show=False, id="difference.copy", tooltip="Send it to the clipboard, as Markdown"),
    ]

    def __init__(self, read: Callable[[], tuple[Document, Document]]) -> None:
        """Args:
        read: Returns the two moments; called in a thread. Raises UnknownMomentError.
        """
        super().__init__("What differs", COMPARING, KEY)
        self._read = read
        self._found: Difference | None = None

    def on_mount(self) -> None:
        """Compare."""
        self.run_worker(self._compare, thread=True)

    def action_copy(self) -> None:
        """Send the difference to the terminal's clipboard, for an issue."""
        if self._found is not None:
            self.app.copy_to_clipboard(as_markdown(self._found))
            self.fill("\n".join((as_text(self._found), " ".join((COPIED, *what_it_needs(os.environ))))))

    def _compare(self) -> None:
        try:
            found = difference(*self._read())
        except UnknownMomentError as error:
            self.app.call_from_thread(self.fill, f"There is nothing to compare: {error}.")
            return
        self.app.call_from_thread(self._show, found)

    def _show(self, found: Difference) -> None:
        self._found = found
        self.fill(f"{as_text(found)}\n{KEYS}")
