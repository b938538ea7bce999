"""The viewer's application: screens and wiring, nothing else. All but the first screen is imported on demand."""

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

from gpumodels_shared.records import replace
from gpumodels_shared.safe_text import safe_text
from gpumodels_tui.clipboard import SENT, what_it_needs
from gpumodels_tui.screens.overview import OverviewScreen
from gpumodels_tui.screens.requested import DifferenceRequested, ModelRequested, ProcessRequested
from gpumodels_tui.screens.view_screen import ViewScreen
from gpumodels_tui.sources.feed import user_name
from gpumodels_tui.terminal import exit_soon, is_gone, is_writable
from gpumodels_tui.theme import DEFAULT_THEME, PICTURE_COLOURS, THEMES, use_theme
from gpumodels_tui.view.device_names import HOST, device_in_words
from gpumodels_tui.view.filtering import ViewFilter
from gpumodels_tui.view.filters import NO_FILTERS, Filters
from gpumodels_tui.view.rows import View
from gpumodels_tui.view.users import next_users, users_in

if TYPE_CHECKING:
    from textual.driver import Driver
    from textual.timer import Timer

    from gpumodels_tui.screens.palette import Choice
    from gpumodels_tui.watching import Watched


TERMINAL_CHECK_SECONDS: Final = 2.0
FIRST_DRAWING_SECONDS: Final = 0.5
"""The longest time for which other work is delayed for the first drawing."""
BEHIND_SECONDS: Final = 0.1
"""How long to wait before a view is drawn on a terminal that doesn't keep up; newer views replace it meanwhile."""
INTERVALS: Final = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds between polls, changed by `+` and `-`; the one that the user chose stands among them."""
REFRESH: Final = "Refresh less often, more often"
COMMANDS_OFFERED: Final = {
    "timeline": "Timeline",
    "freeze": "Freeze or resume",
    "picture": "Save a screenshot",
    "help": "Help",
    "quit": "Quit",
}
"""The commands in the palette, by action."""


def _key(keys: str, action: str, meaning: str, display: str | None = None) -> Binding:
    """A binding that is listed in the help, but not in the footer."""
    return Binding(keys, action, meaning, show=False, key_display=display, id=f"app.{action}", tooltip=meaning)


class ViewChanged(Message):
    """There is a newer view; it replaces one that is still queued."""

    def __init__(self, view: View) -> None:
        super().__init__()
        self.view = view

    def can_replace(self, message: Message) -> bool:
        """Replace any other view, since only the newest needs to be drawn."""
        return isinstance(message, ViewChanged)


class Failed(Message):
    """The watching thread has failed; there will be no newer views."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class GpuModelsApp(App[int]):
    """The application. It holds the view, to which all screens are bound."""

    TITLE = "gpumodels"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark", "help", "Help", key_display="?", id="app.help", tooltip="Help for this screen"),
        Binding("q", "quit", "Quit", id="app.quit", tooltip="Quit"),
        _key("t", "timeline", "Events, and memory over time"),
        _key("p", "process", "The process of the selected row"),
        _key("ctrl+p", "palette", "Find a model, process, theme or command"),
        _key("u", "users", "Whose processes: everybody's, mine, each other user's"),
        _key("F", "filters", "Clear the filters, or set them again"),
        _key("space", "freeze", "Freeze or resume the display", "Space"),
        _key("plus,equals_sign", "interval(1)", REFRESH, "+"),
        _key("minus", "interval(-1)", REFRESH, "-"),
        _key("y", "copy_path", "Send the file's path to the clipboard, and show it"),
        _key("S", "picture", "Save a screenshot (SVG)"),
        _key("ctrl+z", "suspend_process", "Suspend; `fg` in the shell resumes"),
        Binding("ctrl+c,ctrl+q", "quit", "Quit", show=False, id="app.interrupt", tooltip="Quit", priority=True),
    ]

    ansi_theme_dark = Reactive(PICTURE_COLOURS, init=False)

    view: reactive[View | None] = reactive(None, repaint=False, always_update=True)

    frozen: reactive[str] = reactive("", repaint=False)
    """The time at which the display was frozen; empty if it isn't."""

    notice: reactive[str] = reactive("", repaint=False)
    """A line above the keys of every screen, for as long as it isn't empty."""

    def __init__(
        self,
        view: View | None = None,
        *,
        watching: Watched | None = None,
        clock: Callable[[], float] = time.time,
        theme_name: str = DEFAULT_THEME,
        driver_class: type[Driver] | None = None,
        after_first_drawing: Callable[[], None] | None = None,
        filters: Filters | None = None,
    ) -> None:
        """Args:
        view: The first view to show.
        watching: Provides newer views; without it, they come only from `receive`.
        clock: Returns seconds since the epoch; used for ages.
        look: One of `THEMES`.
        driver_class: Textual's driver; None for the default.
        after_first_drawing: Called after the first drawing.
        filters: What to show of everything; keys change it.
        """
        super().__init__(driver_class, ansi_color=THEMES[theme_name].theme.ansi)
        self._watching = watching
        self._once_drawn = after_first_drawing
        self._has_started_updates = False
        self._waiting: View | None = None
        """The newest view if it isn't shown yet, because the display is frozen or the terminal doesn't keep up."""
        self._later: Timer | None = None
        chosen = 1.0 if watching is None else watching.interval_seconds
        self._intervals = sorted({*INTERVALS, chosen})
        self._interval = self._intervals.index(chosen)
        self._has_said_what_copying_needs = False
        self.animation_level = "none"
        for one in THEMES.values():
            self.register_theme(one.theme)
        use_theme(theme_name)
        # Assigning the theme normally would parse all styles a second time; none are parsed yet.
        self.set_reactive(GpuModelsApp.theme, theme_name)
        self.stylesheet.set_variables(self.get_css_variables())
        self.clock = clock
        self._filter = ViewFilter()
        self._filter.filters = self._dropped_filters = filters or NO_FILTERS
        self.set_reactive(GpuModelsApp.view, None if view is None else self._filter.shown(view))

    def get_default_screen(self) -> Screen[None]:
        """The overview, bound to the view."""
        return OverviewScreen(self.clock).data_bind(GpuModelsApp.view, GpuModelsApp.frozen, GpuModelsApp.notice)

    def receive(self, view: View) -> None:
        """Show a newer view; may be called from any thread."""
        self.post_message(ViewChanged(view))

    def on_mount(self) -> None:
        """Start the timers, and the updates after the first drawing."""
        self.app_resume_signal.subscribe(self, self._resumed)
        if self._watching is not None:
            self.set_interval(TERMINAL_CHECK_SECONDS, self._leave_without_terminal)
        self.set_timer(FIRST_DRAWING_SECONDS, self._start_updates)

    def _start_updates(self) -> None:
        """Start the work that was delayed for the first drawing."""
        if self._has_started_updates:
            return
        self._has_started_updates = True
        if self._once_drawn is not None:
            self._once_drawn()
        if self._watching is not None:
            self._watching.tell(self.receive, self._fail_from_thread)

    def leave(self) -> None:
        """Exit normally, with code 0."""
        self.exit(0)

    def _leave_without_terminal(self) -> None:
        if is_gone():
            exit_soon()
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
        """Show the newest view, unless frozen. A slow terminal skips frames, so that it still responds to keys."""
        if self._later is not None:
            self._later.stop()
            self._later = None
        if self._waiting is None or self.frozen:
            return
        if not is_writable():
            self._later = self.set_timer(BEHIND_SECONDS, self._show_waiting)
            return
        self.view, self._waiting = self._filter.shown(self._waiting), None

    @on(ViewScreen.Completed)
    def _completed(self, event: ViewScreen.Completed) -> None:
        self._start_updates()
        if event.screen.view is self.view:
            event.screen.watch_view(None, self.view)
        else:
            event.screen.view = self.view

    @on(ModelRequested)
    def _model_asked(self, event: ModelRequested) -> None:
        from gpumodels_tui.screens.layers import LayersScreen

        self._open(LayersScreen(event.device_key, event.model_key))

    @on(DifferenceRequested)
    def _difference_asked(self, event: DifferenceRequested) -> None:
        from gpumodels_tui.screens.difference_box import DifferenceBox

        if self._watching is None:
            self._say("There is nothing to compare with: nothing is watched.")
        else:
            self.push_screen(DifferenceBox(partial(self._watching.around, event.at_ns)))

    @on(ProcessRequested)
    def _process_asked(self, event: ProcessRequested) -> None:
        self._open_process(event.process_key)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Disable actions that need a model or process if there is none, and the action that opens the present screen."""
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
        if action == "filters":
            return True if screen.is_filtered and (self._filter.filters.has_any or self._dropped_filters.has_any) else None
        if action == "users":
            users = [] if self.view is None else users_in(self.view.everything)
            return True if screen.is_filtered and (len(users) > 1 or self._filter.filters.users) else None
        return True

    def action_filters(self) -> None:
        """Show everything; if that is shown already, what was left of it before."""
        if self._filter.filters.has_any:
            self._dropped_filters = self._filter.filters
            self._set_filters(NO_FILTERS)
        else:
            self._set_filters(self._dropped_filters)

    def action_users(self) -> None:
        """Show the processes of the next user: all, mine, then each other's."""
        if self.view is not None:
            me = user_name(os.geteuid())
            users = next_users(self.view.everything, self._filter.filters.users, me)
            self._set_filters(replace(self._filter.filters, users=users))
            if not users:
                self._say("everybody's processes")

    def _set_filters(self, filters: Filters) -> None:
        self._filter.filters = filters
        if self.view is not None:
            self.view = self._filter.shown(self.view.everything)

    def action_help(self) -> None:
        """Show the help for the present screen."""
        from gpumodels_tui.screens.help_screen import help_screen

        explained = self.screen.explanations() if isinstance(self.screen, ViewScreen) else ()
        self.push_screen(help_screen(self, self.screen.active_bindings.values(), explained))

    def action_timeline(self) -> None:
        """Open the timeline; `o` there selects the events of the model under the cursor."""
        from gpumodels_tui.screens.timeline import TimelineScreen

        model = self.screen.model if isinstance(self.screen, ViewScreen) else None
        self._open(TimelineScreen(None if model is None else model.key, self.clock))

    def action_process(self) -> None:
        """Open the process of the row under the cursor."""
        if isinstance(self.screen, ViewScreen) and self.screen.process_key is not None:
            self._open_process(self.screen.process_key)

    def action_palette(self) -> None:
        """Open the palette."""
        from gpumodels_tui.screens.palette import PaletteScreen

        self.push_screen(PaletteScreen(self._choices()), self._go)

    def action_freeze(self) -> None:
        """Freeze the display, or resume with the newest view."""
        if self.frozen:
            self.frozen = ""
            self._show_waiting()
        else:
            self.frozen = time.strftime("%H:%M:%S", time.localtime(self.clock()))

    def action_interval(self, step: int) -> None:
        """Poll less often, or more often if `step` is negative."""
        self._interval = min(max(self._interval + step, 0), len(self._intervals) - 1)
        seconds = self._intervals[self._interval]
        if self._watching is not None:
            self._watching.interval_seconds = seconds
        self._say(f"refreshes every {seconds:g} s")

    def action_copy_path(self) -> None:
        """Send the model's path to the terminal's clipboard by OSC 52, which works through SSH too, and show it."""
        model = self.screen.model if isinstance(self.screen, ViewScreen) else None
        if model is None:
            return
        if model.model.files:
            path = model.model.files[0]
            self.copy_to_clipboard(path)
            needed = () if self._has_said_what_copying_needs else what_it_needs(os.environ)
            self._has_said_what_copying_needs = True
            self._say(SENT, *needed, exactly=path)
        else:
            self._say("This model's file is not known.")

    def action_picture(self) -> None:
        """Save a screenshot in the working directory, else in the home or temporary directory."""
        name = time.strftime("gpumodels-%Y%m%d-%H%M%S.svg", time.localtime(self.clock()))
        for directory in (Path.cwd(), Path.home(), Path(tempfile.gettempdir())):
            with contextlib.suppress(OSError):
                self._say(f"saved {self.save_screenshot(name, str(directory))}")
                return
        self._say("No directory is writable for a screenshot.")

    async def action_quit(self) -> None:
        """Exit normally, as the signals do."""
        self.leave()

    def apply_theme(self, theme_name: str) -> None:
        """Switch to another theme on all screens."""
        if os.environ.get("NO_COLOR"):
            self._say("NO_COLOR is set: only the monochrome theme is available.")
            return
        use_theme(theme_name)
        self.ansi_color = THEMES[theme_name].theme.ansi
        self.theme = theme_name
        self._repaint()

    def _resumed(self, app: App[int]) -> None:
        """Draw everything again after a suspension, since the terminal shows something else."""
        self._repaint()

    def _repaint(self) -> None:
        """Draw every line of every screen again."""
        for screen in self.screen_stack:
            screen.refresh(layout=True)
            for widget in screen.query("*"):
                widget.refresh()
            if isinstance(screen, ViewScreen):
                screen.watch_view(None, self.view)

    def _choices(self) -> list[Choice]:
        """The palette's choices: models of all devices, processes, themes and commands."""
        from gpumodels_tui.screens.palette import Choice

        view = self.view
        found: list[Choice] = []
        if view is not None:
            for device in view.devices:
                for row in device.models:
                    where = f"{'in' if device.key == HOST else 'on'} {device_in_words(device.label)}"
                    hint = f"{row.kind} {where}, {row.process}"
                    found.append(Choice(row.name, hint, partial(self._show_model, device.key, row.key)))
            found += [Choice(row.title, "process", partial(self._open_process, row.key)) for row in view.process_rows]
        for name, screen_theme in THEMES.items():
            found.append(Choice(f"theme {name}", screen_theme.description, partial(self.apply_theme, name)))
        for action, name in COMMANDS_OFFERED.items():
            found.append(Choice(name, "command", partial(self.run_action, action)))
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
        self.push_screen(screen.data_bind(GpuModelsApp.view, GpuModelsApp.frozen, GpuModelsApp.notice))

    def _say(self, *lines: str, exactly: str = "") -> None:
        if isinstance(self.screen, ViewScreen):
            self.screen.say(*lines, exactly=exactly)
