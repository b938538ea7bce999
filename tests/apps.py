"""The application as tests drive it: it shows a hand-made view, and keys are pressed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from textual.pilot import Pilot
from textual.screen import Screen
from textual.widget import Widget

from gpumodels_tui.app import GpuModelsApp
from gpumodels_tui.screens.overview import OverviewScreen
from gpumodels_tui.theme import DEFAULT_THEME
from gpumodels_tui.view.rows import View
from gpumodels_tui.widgets.layer_table import LayerTable
from gpumodels_tui.widgets.model_table import ModelTable
from screen_text import shown
from views import NOON_SECONDS

SMALL: Final = (80, 24)
LARGE: Final = (120, 40)


def app_showing(view: View, clock: Callable[[], float] = lambda: NOON_SECONDS, theme_name: str = DEFAULT_THEME) -> GpuModelsApp:
    """At noon, unless the clock says otherwise; nothing newer comes by itself."""
    return GpuModelsApp(view, clock=clock, theme_name=theme_name)


async def pressed(pilot: Pilot[Any], *keys: str) -> None:
    """One after the other; returns when what they lead to is drawn."""
    await pilot.press(*keys)
    await pilot.pause()


async def until_shown(pilot: Pilot[Any], app: GpuModelsApp, text: str) -> None:
    """Returns when the screen says so: what a view that came changes is drawn when there is time for it."""
    give_up_at = time.monotonic() + 30
    while text not in shown(app):
        assert time.monotonic() < give_up_at, shown(app)
        await pilot.pause(0.01)


def overview(app: GpuModelsApp) -> OverviewScreen:
    """The first screen, whatever stands on top of it."""
    screen = app.screen_stack[0]
    assert isinstance(screen, OverviewScreen)
    return screen


def on_screen(app: GpuModelsApp, kind: type[Screen[Any]]) -> bool:
    """Whether the screen on top is one of this kind."""
    return isinstance(app.screen, kind)


def has_keys(app: GpuModelsApp, kind: type[Widget]) -> bool:
    """Whether the keys are for a widget of this kind."""
    return isinstance(app.screen.focused, kind)


def selected(app: GpuModelsApp) -> str | None:
    """The model under the overview's cursor."""
    row = overview(app).model
    return None if row is None else row.name


def chosen(app: GpuModelsApp) -> str | None:
    """The key of the device that is chosen on the overview."""
    device = overview(app).device
    return None if device is None else device.key


def listed(app: GpuModelsApp) -> list[str]:
    """The names on the screen's list of models, from top to bottom."""
    return [entry.name for entry in app.screen.query_one(ModelTable).rows]


def under_cursor(app: GpuModelsApp) -> str | None:
    """The name on the line under the cursor, of a model or of a process without a sidecar."""
    entry = app.screen.query_one(ModelTable).cursor_row
    return None if entry is None else entry.name


def layer_table(app: GpuModelsApp) -> LayerTable:
    """The screen's tree of layers."""
    return app.screen.query_one(LayerTable)


def layer_under_cursor(app: GpuModelsApp) -> str:
    """As a dotted path; the root's is empty."""
    layer = layer_table(app).cursor_row
    assert layer is not None
    return ".".join(layer_table(app).sums.path(layer))


def layers_in_sight(app: GpuModelsApp) -> list[str]:
    """The dotted paths of those that no fold hides, from top to bottom."""
    return [".".join(layer_table(app).sums.path(layer)) for layer in layer_table(app).rows]
