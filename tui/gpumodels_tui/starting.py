"""Starts the screens. Polling begins before the screens are imported, so that the first drawing already has contents."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from gpumodels_tui.watching import Watched, WatchingThread

if TYPE_CHECKING:
    from gpumodels_tui.app import GpuModelsApp
    from gpumodels_tui.sources.opening import Sources
    from gpumodels_tui.view.filters import Filters
    from gpumodels_tui.view.rows import View

FIRST_VIEW_SECONDS: Final = 0.25
"""How long the first drawing waits for the first view."""


def run_app(
    sources: Sources,
    *,
    theme_name: str,
    ascii_only: bool = False,
    interval_seconds: float = 1.0,
    filters: Filters | None = None,
) -> int:
    """Run the screens until the user quits. Garbage is not collected before the first drawing: see `resume_collection`.

    Returns:
        The exit code: 0, or 1 after a failure.
    """
    watching = WatchingThread(sources, interval_seconds)
    return run_screens(watching, _live_app, theme_name=theme_name, ascii_only=ascii_only, filters=filters)


def run_screens(
    watching: Watched,
    make_app: Callable[[Watched, View | None, dict[str, Any]], GpuModelsApp],
    *,
    theme_name: str,
    ascii_only: bool = False,
    filters: Filters | None = None,
) -> int:
    """Run an application on what is watched, which is started before the screens are imported, and stopped at the end.

    Args:
        watching: What tells the screens.
        make_app: Makes the application from it, the first view, and further arguments of `GpuModelsApp`.
        theme_name: One of `THEMES`.
        ascii_only: Whether to draw with ASCII alone.
        filters: What is shown.

    Returns:
        The exit code: 0, or 1 after a failure.
    """
    watching.start()
    try:
        from gpumodels_tui.clipboard import is_in_tmux
        from gpumodels_tui.terminal import is_gone, leave_on_signals, on_the_terminal
        from gpumodels_tui.theme import MONOCHROME
        from gpumodels_tui.tty.driver import driver_for

        options: dict[str, Any] = {
            "theme_name": MONOCHROME if os.environ.get("NO_COLOR") else theme_name,
            "driver_class": driver_for(ascii_only, os.environ.get("TERM", ""), is_in_tmux(os.environ)),
            "after_first_drawing": resume_collection,
            "filters": filters,
        }
        app = make_app(watching, watching.first(FIRST_VIEW_SECONDS), options)
        with on_the_terminal(), leave_on_signals(app.leave):
            try:
                app.run()
            except OSError:
                if not is_gone():
                    raise
            # If the terminal was closed in the meantime, nobody can see an error.
            return 0 if is_gone() else app.return_code or 0
    finally:
        watching.stop()


def _live_app(watching: Watched, view: View | None, options: dict[str, Any]) -> GpuModelsApp:
    from gpumodels_tui.app import GpuModelsApp

    return GpuModelsApp(view, watching=watching, **options)


def resume_collection() -> None:
    """Exclude all present objects from garbage collection, and turn it on again."""
    gc.freeze()
    gc.enable()
