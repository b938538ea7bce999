"""A full screen with one list on it: what is filtered, searched, and gone back to."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from textual import on
from textual.binding import Binding, BindingType
from textual.widget import Widget

from gpumodels_tui.screens.view_screen import ViewScreen
from gpumodels_tui.widgets.filter_words import TypingLeft, WordsTyped

if TYPE_CHECKING:
    from gpumodels_tui.widgets.filter_line import FilterLine

MATCHES: Final = "The next match, the one before"


class ListScreen(ViewScreen):
    """Subclasses name their list and show what matches `words`."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "slash",
            "filter",
            "Filter",
            key_display="/",
            id="list.filter",
            tooltip="Only what has these words: name, kind, process, file",
        ),
        Binding("n", "match(1)", "Next match", show=False, id="list.next_match", tooltip=MATCHES),
        Binding("N", "match(-1)", "Previous match", show=False, id="list.previous_match", tooltip=MATCHES),
        Binding("escape", "leave", "Back", key_display="Esc", id="list.leave", tooltip="Show everything again; or back"),
    ]

    words: str = ""
    """What the list is filtered by."""

    _filter_line: FilterLine | None = None
    """From when it was first asked for."""

    def list_widget(self) -> Widget:
        """What takes the keys when nothing else does."""
        raise NotImplementedError

    def filtered(self) -> None:
        """Show what matches `words`."""
        raise NotImplementedError

    def go_to_match(self, step: int) -> None:
        """Move the cursor to the next match in this direction."""
        raise NotImplementedError

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Matches are of a filter; while one types it, a slash is a letter."""
        if action == "filter":
            return self._filter_line is None or not self._filter_line.display
        if action == "match":
            return True if self.words else None
        return super().check_action(action, parameters)

    async def action_filter(self) -> None:
        """Type the words."""
        if self._filter_line is None:
            from gpumodels_tui.widgets.filter_line import FilterLine

            self._filter_line = FilterLine()
            await self.mount(self._filter_line, before=next(iter(self.query("#said, #warnings, #keys"))))
        self._filter_line.open()

    def action_match(self, step: int) -> None:
        """There."""
        self.go_to_match(step)

    def action_leave(self) -> None:
        """What is filtered is shown again first."""
        if self.words:
            self.drop_filter()
        else:
            self.back()

    def back(self) -> None:
        """To where one came from."""
        self.dismiss()

    def drop_filter(self) -> None:
        """Show everything again."""
        self._close(keep=False)

    @on(WordsTyped)
    def _typed(self, event: WordsTyped) -> None:
        self._take(event.words)

    @on(TypingLeft)
    def _left(self, event: TypingLeft) -> None:
        self._close(event.keep)
        self.list_widget().focus()

    def _close(self, keep: bool) -> None:
        if self._filter_line is not None:
            self._filter_line.close(keep)
        if not keep:
            self._take("")

    def _take(self, words: str) -> None:
        if words != self.words:
            self.words = words
            self.filtered()
            self.refresh_bindings()
