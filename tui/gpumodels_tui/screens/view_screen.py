"""The base of all full screens: the view, a line for warnings, the keys, and a notice if the terminal is too small."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Final

from rich.cells import chop_cells
from rich.style import Style
from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.reactive import reactive
from textual.screen import Screen
from textual.timer import Timer
from textual.widget import Widget

from gpumodels_shared.safe_text import safe_text
from gpumodels_tui.theme import ACCENT, MUTED, STYLES, WARNING
from gpumodels_tui.view.rows import ModelRow, View
from gpumodels_tui.widgets.cells import shortened
from gpumodels_tui.widgets.notices import LEAST_COLUMNS, LEAST_LINES, counted, no_room
from gpumodels_tui.widgets.one_line import OneLine, appear

if TYPE_CHECKING:
    from gpumodels_tui.widgets import explanations

MESSAGE_SECONDS: Final = 6.0
SELECTING_SECONDS: Final = 60.0
"""How long a message stays that is there to be selected; another one replaces it."""
LONGEST_PATH: Final = 4096
LINES_BELOW: Final = ("filters", "said", "warnings")
"""The lines above the keys, from top to bottom."""


class ViewScreen(Screen[None]):
    """A full screen. Subclasses compose their widgets in `content` and draw the view in `show`."""

    DEFAULT_CSS = """
    ViewScreen.-no-room > * { display: none; }
    ViewScreen.-no-room > #no-room { display: block; padding: 0; }
    """

    BLANK = True
    """Nothing is drawn behind the widgets."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("w", "warnings", "Warnings", show=False, id="view.warnings", tooltip="Show the warnings"),
    ]

    class Completed(Message):
        """The screen is fully mounted. A view that arrived while it was being mounted may not have been drawn."""

        def __init__(self, screen: ViewScreen) -> None:
            super().__init__()
            self.screen = screen

    shows: ClassVar[str] = ""
    """The application's action that opens this screen; it is disabled here."""

    is_filtered: ClassVar[bool] = False
    """Whether it shows what the filters leave, and says so; else it shows everything, as of one model or process."""

    shows_history: ClassVar[bool] = False
    """Whether the screen draws the history, so that it must be drawn again for a new one."""

    view: reactive[View | None] = reactive(None, repaint=False, always_update=True)
    frozen: reactive[str] = reactive("", repaint=False)
    """The time at which the screen was frozen; empty if it isn't."""
    notice: reactive[str] = reactive("", repaint=False)
    """What every screen says above its keys; empty for nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.is_complete = False
        """Whether the widgets that are mounted after the first drawing are there."""
        self._shown_warnings: tuple[tuple[str, ...], str] = ((), "")
        self._shown_filters = ""
        self._said: tuple[str, ...] = ()
        self._said_exactly = ""
        self._said_timer: Timer | None = None

    def content(self) -> Iterator[Widget]:
        """The screen's own widgets, from top to bottom."""
        raise NotImplementedError

    def show(self, view: View) -> None:
        """Draw the differences from the view shown before."""
        raise NotImplementedError

    def explanations(self) -> Sequence[explanations.Group]:
        """Explanations of the screen's marks for the help; imported on demand."""
        return ()

    def below(self) -> Iterator[Widget]:
        """Widgets below the content and above the warnings."""
        yield from ()

    @property
    def model(self) -> ModelRow | None:
        """The model that keys apply to."""
        return None

    @property
    def process_key(self) -> str | None:
        """`ProcessRow.key` of the process that keys apply to."""
        return None if self.model is None else self.model.process_state.key

    def compose(self) -> ComposeResult:
        """The content, and below it the widgets that all screens have."""
        yield from self.content()
        yield from self.below()
        keys = Widget(id="keys")
        keys.styles.dock, keys.styles.height = "bottom", 1
        yield keys

    def watch_view(self, before: View | None, view: View | None) -> None:
        """Show a newer view, or the first one, and its warnings."""
        if view is None or not self.is_mounted or not self.is_current:
            return
        if before is not None and not self.shows_history and _differ_in_history_alone(before, view):
            return
        self.show(view if self.is_filtered else view.everything)
        if self.is_filtered and self._shown_filters != view.filtered_by:
            self._shown_filters = view.filtered_by
            self._draw_filters()
            self.refresh_bindings()
        if self._shown_warnings != (view.warnings, view.progress):
            had_warnings = bool(self._shown_warnings[0])
            self._shown_warnings = (view.warnings, view.progress)
            warned = f"! {counted(len(view.warnings), 'warning')}: w" if view.warnings else ""
            line = Text.assemble((warned, STYLES[WARNING]), "  " if warned else "", (safe_text(view.progress), STYLES[MUTED]))
            self._show_line_below("warnings", line)
            if had_warnings != bool(view.warnings):
                self.refresh_bindings()

    def on_mount(self) -> None:
        """Show the view if it is there already, then mount the remaining widgets."""
        self.watch_view(None, self.view)
        if self.notice:
            self.watch_notice(self.notice)
        self.call_after_refresh(self._complete)

    def on_screen_resume(self) -> None:
        """Show the view that arrived while another screen was on top."""
        self.watch_view(None, self.view)

    def watch_notice(self, notice: str) -> None:
        """Show the notice in a line of its own, which stands out."""
        if self.is_mounted:
            style = STYLES[WARNING] + Style(reverse=True)
            text = f" {safe_text(notice, 300)} " if notice else ""
            self._show_line_below("above-keys", Text(text, style, no_wrap=True, overflow="ellipsis"))

    def watch_frozen(self, frozen: str) -> None:
        """Show a notice as long as the screen is frozen."""
        if self.is_mounted:
            self._draw_said()

    def say(self, *lines: str, exactly: str = "") -> None:
        """Show a message for a while.

        Args:
            lines: Each is shown in one line of the screen, cut if it is longer.
            exactly: Shown below them, uncut, and for so long that it can be selected; folded if it is longer than a line.
        """
        self._said, self._said_exactly = lines, exactly
        if self._said_timer is not None:
            self._said_timer.stop()
        self._said_timer = self.set_timer(SELECTING_SECONDS if exactly else MESSAGE_SECONDS, self._clear_said)
        self._draw_said()

    def _show_line_below(self, id: str, line: Text) -> None:
        """Show text in a line of its own above the keys; without text the line is hidden."""
        one_line = next(iter(self.query(f"#{id}").results(OneLine)), None)
        if one_line is None:
            if not line:
                return
            one_line = OneLine(id=id)
            below = LINES_BELOW[LINES_BELOW.index(id) + 1 :] if id in LINES_BELOW else ()
            self.mount(one_line, before=next((f"#{other}" for other in below if self.query(f"#{other}")), "#keys"))
        appear(one_line, bool(line))
        height = line.plain.count("\n") + 1
        if one_line.styles.height is None or one_line.styles.height.value != height:
            one_line.styles.height = height
        one_line.say(line)

    async def complete(self) -> None:
        """Mount the widgets that aren't needed for the first drawing."""

    async def _complete(self) -> None:
        """Mount the remaining widgets and the keys, all in one update."""
        from gpumodels_tui.widgets.keys_line import KeysLine

        keys = self.query_one("#keys")
        if not keys.is_attached:
            return  # the screen was closed immediately
        with self.app.batch_update():
            await self.complete()
            await keys.mount(KeysLine(show_command_palette=False))
            self.is_complete = True
        if keys.is_attached:
            self.refresh_bindings()
            self.post_message(self.Completed(self))

    def _draw_filters(self) -> None:
        """Say which filters leave something out, cut so that the key that clears them is always there."""
        ending = "; F shows all"
        words = shortened(f"Only {self._shown_filters}", max(self.size.width - 4 - len(ending), 1))
        line = Text(words + ending, STYLES[WARNING], no_wrap=True) if self._shown_filters else Text()
        self._show_line_below("filters", line)

    def _clear_said(self) -> None:
        self._said, self._said_exactly, self._said_timer = (), "", None
        self._draw_said()

    def _draw_said(self) -> None:
        lines = self._said or ((f"Frozen at {self.frozen}; Space resumes",) if self.frozen else ())
        role = WARNING if self.frozen and not self._said else ACCENT
        width = max(self.size.width - 4, 1)
        shown = [shortened(safe_text(line), width) for line in lines]
        if self._said_exactly:
            shown += chop_cells(safe_text(self._said_exactly, LONGEST_PATH), width)
        self._show_line_below("said", Text("\n".join(shown), STYLES[role], no_wrap=True))

    def on_resize(self, event: events.Resize) -> None:
        """Show a notice instead of the content if the terminal is too small."""
        columns, lines = event.size
        small = columns < LEAST_COLUMNS or lines < LEAST_LINES
        self.set_class(small, "-no-room")
        if self._said_exactly:
            self._draw_said()  # folded in the new width
        if self._shown_filters:
            self._draw_filters()  # cut to the new width
        self._show_line_below("no-room", no_room(columns, lines) if small else Text())

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Disable the list of warnings if there are none."""
        if action == "warnings":
            return None if self.view is None or not self.view.warnings else True
        return True

    def action_warnings(self) -> None:
        """Open a box with all warnings."""
        if self.view is not None:
            from gpumodels_tui.screens.text_screen import TextScreen

            lines = [Text("• " + safe_text(warning)) for warning in self.view.warnings]
            self.app.push_screen(TextScreen("Warnings", lines, closing_key="w", columns=100))


def _differ_in_history_alone(before: View, after: View) -> bool:
    """Whether only the history is new: the watching thread passes unchanged parts on as identical objects."""
    return (
        before.devices is after.devices
        and before.process_rows is after.process_rows
        and before.warnings is after.warnings
        and before.progress == after.progress
        and before.history is not after.history
    )
