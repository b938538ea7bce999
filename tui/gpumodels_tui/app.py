"""The viewer's application: screens and wiring, nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Final

from rich.text import Text
from textual import on
from textual.app import App
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.reactive import reactive
from textual.screen import Screen

from gpumodels_shared.safe_text import safe_text
from gpumodels_tui.screens.help_screen import help_screen
from gpumodels_tui.screens.layers import LayersScreen
from gpumodels_tui.screens.overview import OverviewScreen
from gpumodels_tui.screens.text_screen import TextScreen
from gpumodels_tui.terminal import end_soon, is_gone, on_the_terminal, signals_meaning
from gpumodels_tui.theme import PICTURE_COLOURS, THEME
from gpumodels_tui.view_model import View

if TYPE_CHECKING:
    from gpumodels_tui.sources import Sources
    from gpumodels_tui.watching import WatchingThread


TERMINAL_CHECK_SECONDS: Final = 2.0


def run_app(sources: Sources) -> int:
    """The screens, until the user leaves. The exit code: 0, or 1 after a failure."""
    app = GpuModelsApp(sources=sources)
    with on_the_terminal(), signals_meaning(app.leave):
        try:
            app.run()
        finally:
            app.stop_watching()
    return app.return_code or 0


class ViewChanged(Message):
    """There is a newer view; one that still waits is replaced by it."""

    def __init__(self, view: View) -> None:
        super().__init__()
        self.view = view

    def can_replace(self, message: Message) -> bool:
        """Only the newest is worth drawing."""
        return isinstance(message, ViewChanged)


class GpuModelsApp(App[int]):
    """Holds the view; screens are bound to it."""

    TITLE = "gpumodels"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Footer { background: ansi_default; padding: 0 1; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark", "help", "Help", key_display="?", id="app.help", tooltip="The keys of this screen"),
        Binding("q", "quit", "Quit", id="app.quit", tooltip="Leave"),
        Binding("ctrl+c,ctrl+q", "quit", "Quit", show=False, id="app.interrupt", tooltip="Leave", priority=True),
    ]

    view: reactive[View | None] = reactive(None, repaint=False)

    def __init__(
        self, view: View | None = None, *, sources: Sources | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        """Args:
        view: What to show at first.
        sources: What to watch once the screen is up; without them, views come by `receive` alone.
        clock: Seconds since the epoch, what ages are counted from.
        """
        super().__init__(ansi_color=True)
        self._sources = sources
        self._thread: WatchingThread | None = None
        self.animation_level = "none"
        self.ansi_theme_dark = PICTURE_COLOURS
        self.register_theme(THEME)
        self.theme = THEME.name
        self.clock = clock
        self.set_reactive(GpuModelsApp.view, view)

    def get_default_screen(self) -> Screen[None]:
        """The overview."""
        return OverviewScreen(self.clock).data_bind(GpuModelsApp.view)

    def receive(self, view: View) -> None:
        """Show a newer view; from any thread."""
        self.post_message(ViewChanged(view))

    def on_mount(self) -> None:
        """Watch."""
        if self._sources is None:
            return
        from gpumodels_tui.watching import WatchingThread

        self.set_interval(TERMINAL_CHECK_SECONDS, self._leave_without_terminal)
        self._thread = WatchingThread(self._sources, self.receive, self._fail_from_thread)
        self._thread.start()

    def leave(self) -> None:
        """End in order, with code 0."""
        self.exit(0)

    def stop_watching(self) -> None:
        """Let go of what is watched."""
        if self._thread is not None:
            self._thread.stop()

    def _leave_without_terminal(self) -> None:
        if is_gone():
            end_soon()
            self.leave()

    def _fail_from_thread(self, error: Exception) -> None:
        line = f"gpumodels-tui: error: {type(error).__name__}: {safe_text(str(error))}; please report it"
        self.call_from_thread(self.exit, 1, 1, Text(line))

    @on(ViewChanged)
    def _view_changed(self, event: ViewChanged) -> None:
        self.view = event.view

    @on(OverviewScreen.ModelOpened)
    def _model_opened(self, event: OverviewScreen.ModelOpened) -> None:
        self.push_screen(LayersScreen(event.device_key, event.model_key).data_bind(GpuModelsApp.view))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Help is not helped."""
        if action == "help" and isinstance(self.screen, TextScreen):
            return None
        return True

    def action_help(self) -> None:
        """The keys of the screen that one is on."""
        self.push_screen(help_screen(self, self.screen.active_bindings.values()))

    async def action_quit(self) -> None:
        """Leave."""
        self.leave()
