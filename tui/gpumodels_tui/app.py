"""The viewer's application: screens and wiring, nothing else. What isn't on the first screen is loaded when it is asked for."""

from __future__ import annotations

import contextlib
import inspect
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from rich.text import Text
from textual import on
from textual.app import App
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.reactive import Reactive, reactive
from textual.screen import Screen

from gpumodels_shared.safe_text import safe_text
from gpumodels_tui.screens.asked import ModelAsked, ProcessAsked
from gpumodels_tui.screens.overview import OverviewScreen
from gpumodels_tui.screens.view_screen import ViewScreen
from gpumodels_tui.terminal import end_soon, is_gone, keeps_up
from gpumodels_tui.theme import DEFAULT_LOOK, LOOKS, PICTURE_COLOURS, use
from gpumodels_tui.view.device_names import HOST, in_words
from gpumodels_tui.view.rows import View

if TYPE_CHECKING:
    from textual.driver import Driver
    from textual.timer import Timer

    from gpumodels_tui.screens.palette import Choice
    from gpumodels_tui.watching import WatchingThread


TERMINAL_CHECK_SECONDS: Final = 2.0
FIRST_PICTURE_SECONDS: Final = 0.5
"""The longest that anything waits for the first picture."""
BEHIND_SECONDS: Final = 0.1
"""How long a view waits for a terminal that is behind; newer ones take its place meanwhile."""
INTERVALS: Final = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds between looks, by `+` and `-`."""
LOOKING: Final = "Look less often, more often"
COMMANDS_OFFERED: Final = {
    "timeline": "Timeline",
    "freeze": "Freeze, or go on",
    "picture": "Save a picture",
    "help": "Keys",
    "quit": "Quit",
}
"""By action, in the palette."""


def _key(keys: str, action: str, meaning: str, display: str | None = None) -> Binding:
    """One that has no room in the footer; the help has it."""
    return Binding(keys, action, meaning, show=False, key_display=display, id=f"app.{action}", tooltip=meaning)


class ViewChanged(Message):
    """There is a newer view; one that still waits is replaced by it."""

    def __init__(self, view: View) -> None:
        super().__init__()
        self.view = view

    def can_replace(self, message: Message) -> bool:
        """Only the newest is worth drawing."""
        return isinstance(message, ViewChanged)


class Failed(Message):
    """Nothing newer will come, and why."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class GpuModelsApp(App[int]):
    """Holds the view; screens are bound to it."""

    TITLE = "gpumodels"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark", "help", "Help", key_display="?", id="app.help", tooltip="The keys of this screen"),
        Binding("q", "quit", "Quit", id="app.quit", tooltip="Leave"),
        _key("t", "timeline", "What happened, and the last hour's memory"),
        _key("p", "process", "The process of the line under the cursor"),
        _key("ctrl+p", "palette", "Go to any model by its name; themes and commands"),
        _key("space", "freeze", "Hold the picture still; and go on", "Space"),
        _key("plus,equals_sign", "interval(1)", LOOKING, "+"),
        _key("minus", "interval(-1)", LOOKING, "-"),
        _key("y", "copy_path", "Copy the path of the model's file"),
        _key("S", "picture", "Save a picture of the screen (SVG)"),
        _key("ctrl+z", "suspend_process", "To the shell; `fg` comes back"),
        Binding("ctrl+c,ctrl+q", "quit", "Quit", show=False, id="app.interrupt", tooltip="Leave", priority=True),
    ]

    ansi_theme_dark = Reactive(PICTURE_COLOURS, init=False)

    view: reactive[View | None] = reactive(None, repaint=False, always_update=True)

    frozen: reactive[str] = reactive("", repaint=False)
    """Since when nothing newer is shown; empty while everything is."""

    def __init__(
        self,
        view: View | None = None,
        *,
        watching: WatchingThread | None = None,
        clock: Callable[[], float] = time.time,
        look: str = DEFAULT_LOOK,
        driver_class: type[Driver] | None = None,
        once_drawn: Callable[[], None] | None = None,
    ) -> None:
        """Args:
        view: What to show at first.
        watching: Where newer views come from; without it, by `receive` alone.
        clock: Seconds since the epoch, what ages are counted from.
        look: One of `LOOKS`.
        driver_class: What draws; None for Textual's own.
        once_drawn: Called when the first picture stands.
        """
        super().__init__(driver_class, ansi_color=LOOKS[look].theme.ansi)
        self._watching = watching
        self._once_drawn = once_drawn
        self._has_gone_on = False
        self._waiting: View | None = None
        """The newest that isn't shown: the picture is frozen, or the terminal is behind."""
        self._later: Timer | None = None
        self._interval = INTERVALS.index(1.0)
        self.animation_level = "none"
        for one in LOOKS.values():
            self.register_theme(one.theme)
        use(look)
        # Watched, the theme would have all styles read twice; nothing is read yet.
        self.set_reactive(GpuModelsApp.theme, look)
        self.stylesheet.set_variables(self.get_css_variables())
        self.clock = clock
        self.set_reactive(GpuModelsApp.view, view)

    def get_default_screen(self) -> Screen[None]:
        """The overview."""
        return OverviewScreen(self.clock).data_bind(GpuModelsApp.view, GpuModelsApp.frozen)

    def receive(self, view: View) -> None:
        """Show a newer view; from any thread."""
        self.post_message(ViewChanged(view))

    def on_mount(self) -> None:
        """Be told from now on."""
        self.app_resume_signal.subscribe(self, self._resumed)
        if self._watching is not None:
            self.set_interval(TERMINAL_CHECK_SECONDS, self._leave_without_terminal)
        self.set_timer(FIRST_PICTURE_SECONDS, self._go_on)

    def _go_on(self) -> None:
        """What waited for the first picture."""
        if self._has_gone_on:
            return
        self._has_gone_on = True
        if self._once_drawn is not None:
            self._once_drawn()
        if self._watching is not None:
            self._watching.tell(self.receive, self._fail_from_thread)

    def leave(self) -> None:
        """End in order, with code 0."""
        self.exit(0)

    def _leave_without_terminal(self) -> None:
        if is_gone():
            end_soon()
            self.leave()

    def _fail_from_thread(self, error: Exception) -> None:
        self.post_message(Failed(error))

    @on(Failed)
    def _fail(self, event: Failed) -> None:
        error = event.error
        line = f"gpumodels-tui: error: {type(error).__name__}: {safe_text(str(error))}; please report it"
        self.exit(1, 1, Text(line))

    @on(ViewChanged)
    def _view_changed(self, event: ViewChanged) -> None:
        self._waiting = event.view
        self._show_waiting()

    def _show_waiting(self) -> None:
        """Frames are what a slow terminal goes without, so that it answers keys."""
        if self._later is not None:
            self._later.stop()
            self._later = None
        if self._waiting is None or self.frozen:
            return
        if not keeps_up():
            self._later = self.set_timer(BEHIND_SECONDS, self._show_waiting)
            return
        self.view, self._waiting = self._waiting, None

    @on(ViewScreen.Completed)
    def _completed(self, event: ViewScreen.Completed) -> None:
        self._go_on()
        if event.screen.view is self.view:
            event.screen.watch_view(None, self.view)
        else:
            event.screen.view = self.view

    @on(ModelAsked)
    def _model_asked(self, event: ModelAsked) -> None:
        from gpumodels_tui.screens.layers import LayersScreen

        self._open(LayersScreen(event.device_key, event.model_key))

    @on(ProcessAsked)
    def _process_asked(self, event: ProcessAsked) -> None:
        self._open_process(event.process_key)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What needs a model or a process under the cursor is greyed without; a screen is not opened from itself."""
        screen = self.screen
        if action == "help":
            return True if isinstance(screen, ViewScreen) else None
        if not isinstance(screen, ViewScreen):
            return True
        if action == screen.shows:
            return None
        if action == "process":
            return None if screen.process_key is None else True
        if action == "copy_path":
            return None if screen.model is None else True
        return True

    def action_help(self) -> None:
        """The keys of the screen that one is on."""
        from gpumodels_tui.screens.help_screen import help_screen

        explained = self.screen.explained() if isinstance(self.screen, ViewScreen) else ()
        self.push_screen(help_screen(self, self.screen.active_bindings.values(), explained))

    def action_timeline(self) -> None:
        """Of all models; `o` there shows those of the one under the cursor here."""
        from gpumodels_tui.screens.timeline import TimelineScreen

        model = self.screen.model if isinstance(self.screen, ViewScreen) else None
        self._open(TimelineScreen(None if model is None else model.key, self.clock))

    def action_process(self) -> None:
        """Of the line under the cursor."""
        if isinstance(self.screen, ViewScreen) and self.screen.process_key is not None:
            self._open_process(self.screen.process_key)

    def action_palette(self) -> None:
        """Everything there is to go to."""
        from gpumodels_tui.screens.palette import PaletteScreen

        self.push_screen(PaletteScreen(self._choices()), self._go)

    def action_freeze(self) -> None:
        """Hold the picture, or let it go on with the newest."""
        if self.frozen:
            self.frozen = ""
            self._show_waiting()
        else:
            self.frozen = time.strftime("%H:%M:%S", time.localtime(self.clock()))

    def action_interval(self, step: int) -> None:
        """Look more often or less."""
        self._interval = min(max(self._interval + step, 0), len(INTERVALS) - 1)
        seconds = INTERVALS[self._interval]
        if self._watching is not None:
            self._watching.interval_seconds = seconds
        self._say(f"looks every {seconds:g} s")

    def action_copy_path(self) -> None:
        """To the terminal's clipboard, by OSC 52: through SSH as well."""
        model = self.screen.model if isinstance(self.screen, ViewScreen) else None
        if model is None:
            return
        if model.model.files:
            self.copy_to_clipboard(model.model.files[0])
            self._say(f"copied {model.model.files[0]}")
        else:
            self._say("No file of this model is known.")

    def action_picture(self) -> None:
        """Where one works, else where there is room for it."""
        name = time.strftime("gpumodels-%Y%m%d-%H%M%S.svg", time.localtime(self.clock()))
        for directory in (Path.cwd(), Path.home(), Path(tempfile.gettempdir())):
            with contextlib.suppress(OSError):
                self._say(f"saved {self.save_screenshot(name, str(directory))}")
                return
        self._say("There is no directory to save a picture in.")

    async def action_quit(self) -> None:
        """Leave."""
        self.leave()

    def wear(self, look: str) -> None:
        """Another look, on every screen."""
        if os.environ.get("NO_COLOR"):
            self._say("NO_COLOR is set: there is one look.")
            return
        use(look)
        self.ansi_color = LOOKS[look].theme.ansi
        self.theme = look
        self._repaint()

    def _resumed(self, app: App[int]) -> None:
        """From the background: the terminal has forgotten what it showed."""
        self._repaint()

    def _repaint(self) -> None:
        """Every line of every screen."""
        for screen in self.screen_stack:
            screen.refresh(layout=True)
            for widget in screen.query("*"):
                widget.refresh()
            if isinstance(screen, ViewScreen):
                screen.watch_view(None, self.view)

    def _choices(self) -> list[Choice]:
        """Models of all devices, processes, looks, and what keys do."""
        from gpumodels_tui.screens.palette import Choice

        view = self.view
        found: list[Choice] = []
        if view is not None:
            for device in view.devices:
                for row in device.models:
                    where = f"{'in' if device.key == HOST else 'on'} {in_words(device.label)}"
                    hint = f"{row.kind} {where}, {row.process}"
                    found.append(Choice(row.name, hint, partial(self._show_model, device.key, row.key)))
            found += [Choice(row.title, "process", partial(self._open_process, row.key)) for row in view.process_rows]
        for name, look in LOOKS.items():
            found.append(Choice(f"theme {name}", look.says, partial(self.wear, name)))
        for action, says in COMMANDS_OFFERED.items():
            found.append(Choice(says, "command", partial(self.run_action, action)))
        return found

    def _go(self, choice: Choice | None) -> None:
        if choice is not None:
            outcome = choice.run()
            if inspect.isawaitable(outcome):
                self.run_worker(outcome)

    def _show_model(self, device_key: str, row_key: str) -> None:
        overview = self.screen_stack[0]
        while self.screen is not overview:
            self.pop_screen()
        if isinstance(overview, OverviewScreen):
            overview.choose(device_key, row_key)

    def _open_process(self, key: str) -> None:
        from gpumodels_tui.screens.process import ProcessScreen

        self._open(ProcessScreen(key, self.clock))

    def _open(self, screen: ViewScreen) -> None:
        self.push_screen(screen.data_bind(GpuModelsApp.view, GpuModelsApp.frozen))

    def _say(self, line: str) -> None:
        if isinstance(self.screen, ViewScreen):
            self.screen.say(line)
