"""The way to the first picture: looking begins before the screens are loaded, so that they come up with something on them."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING, Final

from gpumodels_tui.watching import WatchingThread

if TYPE_CHECKING:
    from gpumodels_tui.sources.opening import Sources

FIRST_LOOK_SECONDS: Final = 0.25
"""How long the first picture waits for what is on it."""


def run_app(sources: Sources, *, look: str, ascii_only: bool = False) -> int:
    """The screens, until the user leaves. The exit code: 0, or 1 after a failure."""
    gc.disable()  # until `collect_again`: nearly all that is made while modules are loaded stays
    watching = WatchingThread(sources)
    watching.start()
    try:
        from gpumodels_tui.app import GpuModelsApp
        from gpumodels_tui.plain_terminal import driver_for
        from gpumodels_tui.terminal import is_gone, on_the_terminal, signals_meaning
        from gpumodels_tui.theme import COLOURLESS

        app = GpuModelsApp(
            watching.first(FIRST_LOOK_SECONDS),
            watching=watching,
            look=COLOURLESS if os.environ.get("NO_COLOR") else look,
            driver_class=driver_for(ascii_only, os.environ.get("TERM", "")),
            once_drawn=collect_again,
        )
        with on_the_terminal(), signals_meaning(app.leave):
            try:
                app.run()
            except OSError:
                if not is_gone():
                    raise
            # Whatever failed on a terminal that was closed meanwhile, there is nobody to be told of it.
            return 0 if is_gone() else app.return_code or 0
    finally:
        watching.stop()


def collect_again() -> None:
    """What there is by now is never looked through again; what comes is."""
    gc.freeze()
    gc.enable()
