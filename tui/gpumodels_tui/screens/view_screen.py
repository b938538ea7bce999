"""What every full screen has: the view, a line for warnings, the keys below, and a word when there is no room."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Final

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
    from gpumodels_tui.widgets import explained

SAID_SECONDS: Final = 6.0


class ViewScreen(Screen[None]):
    """Subclasses compose `content` and draw in `show`."""

    DEFAULT_CSS = """
    ViewScreen.-no-room > * { display: none; }
    ViewScreen.-no-room > #no-room { display: block; padding: 0; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("w", "warnings", "Warnings", show=False, id="view.warnings", tooltip="The list of warnings"),
    ]

    class Completed(Message):
        """All of the screen is there: a view that came while it was being mounted may have missed it."""

        def __init__(self, screen: ViewScreen) -> None:
            super().__init__()
            self.screen = screen

    shows: ClassVar[str] = ""
    """The application's action that leads here: it is not offered here."""

    tells_history: ClassVar[bool] = False
    """Whether it draws what happened, so that a newer history is news."""

    view: reactive[View | None] = reactive(None, repaint=False, always_update=True)
    frozen: reactive[str] = reactive("", repaint=False)
    """Since when nothing newer is shown; empty while everything is."""

    def __init__(self) -> None:
        super().__init__()
        self.is_complete = False
        """Whether what comes behind the first picture is there."""
        self._told: tuple[tuple[str, ...], str] = ((), "")
        self._said = ""
        self._unsay: Timer | None = None

    def content(self) -> Iterator[Widget]:
        """The screen's own widgets, top to bottom."""
        raise NotImplementedError

    def show(self, view: View) -> None:
        """Draw what differs from before."""
        raise NotImplementedError

    def explained(self) -> Sequence[explained.Group]:
        """What the help says of its marks; loaded when it is asked for."""
        return ()

    def below(self) -> Iterator[Widget]:
        """What stands under the content, above the warnings."""
        yield from ()

    @property
    def model(self) -> ModelRow | None:
        """The model that keys are about."""
        return None

    @property
    def process_key(self) -> str | None:
        """`ProcessRow.key` of the process that keys are about."""
        return None if self.model is None else self.model.process_state.key

    def compose(self) -> ComposeResult:
        """The content, and below it what all have."""
        yield from self.content()
        yield from self.below()
        keys = Widget(id="keys")
        keys.styles.dock, keys.styles.height = "bottom", 1
        yield keys

    def watch_view(self, before: View | None, view: View | None) -> None:
        """A newer view, or the first."""
        if view is None or not self.is_mounted or not self.is_current:
            return
        if before is not None and not self.tells_history and _differ_in_history_alone(before, view):
            return
        self.show(view)
        if self._told != (view.warnings, view.progress):
            had_warnings = bool(self._told[0])
            self._told = (view.warnings, view.progress)
            warned = f"! {counted(len(view.warnings), 'warning')}: w" if view.warnings else ""
            line = Text.assemble((warned, STYLES[WARNING]), "  " if warned else "", (safe_text(view.progress), STYLES[MUTED]))
            self._say_below("warnings", line)
            if had_warnings != bool(view.warnings):
                self.refresh_bindings()

    def on_mount(self) -> None:
        """The view may have come first."""
        self.watch_view(None, self.view)
        self.call_after_refresh(self._complete)

    def on_screen_resume(self) -> None:
        """What came while another screen was on top."""
        self.watch_view(None, self.view)

    def watch_frozen(self, frozen: str) -> None:
        """It is said for as long as it lasts."""
        if self.is_mounted:
            self._draw_said()

    def say(self, line: str) -> None:
        """One line, for some seconds."""
        self._said = line
        if self._unsay is not None:
            self._unsay.stop()
        self._unsay = self.set_timer(SAID_SECONDS, self._say_no_more)
        self._draw_said()

    def _say_below(self, id: str, line: Text) -> None:
        """On a line of its own above the keys, which is there while there is something to say."""
        said = next(iter(self.query(f"#{id}").results(OneLine)), None)
        if said is None:
            if not line:
                return
            said = OneLine(id=id)
            self.mount(said, before="#warnings" if id == "said" and self.query("#warnings") else "#keys")
        appear(said, bool(line))
        said.say(line)

    async def complete(self) -> None:
        """Mount what comes behind the first picture."""

    async def _complete(self) -> None:
        """With the keys, which nobody waits for; all of it in one more picture."""
        from gpumodels_tui.widgets.keys_line import KeysLine

        place = self.query_one("#keys")
        if not place.is_attached:
            return  # it was left at once
        with self.app.batch_update():
            await self.complete()
            await place.mount(KeysLine(show_command_palette=False))
            self.is_complete = True
        if place.is_attached:
            self.refresh_bindings()
            self.post_message(self.Completed(self))

    def _say_no_more(self) -> None:
        self._said, self._unsay = "", None
        self._draw_said()

    def _draw_said(self) -> None:
        line = self._said or (f"Frozen at {self.frozen}; Space goes on" if self.frozen else "")
        role = WARNING if self.frozen and not self._said else ACCENT
        line = shortened(safe_text(line), max(self.size.width - 4, 1))
        self._say_below("said", Text(line, STYLES[role], no_wrap=True))

    def on_resize(self, event: events.Resize) -> None:
        """Too small is said, not drawn badly."""
        columns, lines = event.size
        small = columns < LEAST_COLUMNS or lines < LEAST_LINES
        self.set_class(small, "-no-room")
        self._say_below("no-room", no_room(columns, lines) if small else Text())

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Without warnings there is no list of them."""
        if action == "warnings":
            return None if self.view is None or not self.view.warnings else True
        return True

    def action_warnings(self) -> None:
        """All of them."""
        if self.view is not None:
            from gpumodels_tui.screens.text_screen import TextScreen

            lines = [Text("• " + safe_text(warning)) for warning in self.view.warnings]
            self.app.push_screen(TextScreen("Warnings", lines, closing_key="w", columns=100))


def _differ_in_history_alone(before: View, after: View) -> bool:
    """The watching thread hands the very same parts on where nothing else is new."""
    return (
        before.devices is after.devices
        and before.process_rows is after.process_rows
        and before.warnings is after.warnings
        and before.progress == after.progress
        and before.history is not after.history
    )
