"""A full screen with one list that can be filtered and searched."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from textual import on
from textual.binding import Binding, BindingType
from textual.widget import Widget

from gpumodels_tui.screens.view_screen import ViewScreen
from gpumodels_tui.widgets.filter_words import TypingLeft, WordsTyped

if TYPE_CHECKING:
    from gpumodels_tui.widgets.filter_line import FilterLine

MATCHES: Final = "Next or previous match"


class ListScreen(ViewScreen):
    """Subclasses return their list in `list_widget`, and show what matches `words` in `filtered`."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "slash",
            "filter",
            "Filter",
            key_display="/",
            id="list.filter",
            tooltip="Filter by words in the name, kind, process or file",
        ),
        Binding("n", "match(1)", "Next match", show=False, id="list.next_match", tooltip=MATCHES),
        Binding("N", "match(-1)", "Previous match", show=False, id="list.previous_match", tooltip=MATCHES),
        Binding("escape", "leave", "Back", key_display="Esc", id="list.leave", tooltip="Clear the filter, or go back"),
    ]

    words: str = ""
    """The words that the list is filtered by."""

    _filter_line: FilterLine | None = None
    """Created when it is first opened."""

    def list_widget(self) -> Widget:
        """The list, which has the focus by default."""
        raise NotImplementedError

    def filtered(self) -> None:
        """Show the rows that match `words`."""
        raise NotImplementedError

    def go_to_match(self, step: int) -> None:
        """Move the cursor to the next match in this direction."""
        raise NotImplementedError

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Disable moving between matches without a filter, and opening the filter line while it is open."""
        if action == "filter":
            return self._filter_line is None or not self._filter_line.display
        if action == "match":
            return True if self.words else None
        return super().check_action(action, parameters)

    async def action_filter(self) -> None:
        """Open the line in which the words are typed."""
        if self._filter_line is None:
            from gpumodels_tui.widgets.filter_line import FilterLine

            self._filter_line = FilterLine()
            await self.mount(self._filter_line, before=next(iter(self.query("#filters, #said, #warnings, #keys"))))
        self._filter_line.open()

    def action_match(self, step: int) -> None:
        """Move the cursor to the next or previous match."""
        self.go_to_match(step)

    def action_leave(self) -> None:
        """Clear the filter; without a filter, go back."""
        if self.words:
            self.drop_filter()
        else:
            self.back()

    def back(self) -> None:
        """Close this screen."""
        self.dismiss()

    def drop_filter(self) -> None:
        """Clear the filter."""
        self._close(keep=False)

    @on(WordsTyped)
    def _typed(self, event: WordsTyped) -> None:
        self._set_words(event.words)

    @on(TypingLeft)
    def _left(self, event: TypingLeft) -> None:
        self._close(event.keep)
        self.list_widget().focus()

    def _close(self, keep: bool) -> None:
        if self._filter_line is not None:
            self._filter_line.close(keep)
        if not keep:
            self._set_words("")

    def _set_words(self, words: str) -> None:
        if words != self.words:
            self.words = words
            self.filtered()
            self.refresh_bindings()
