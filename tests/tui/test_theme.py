"""Looks: what a theme paints, on every screen."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gpumodels_tui.app import GpuModelsApp
from gpumodels_tui.theme import DEFAULT_THEME, THEMES, use_theme
from screen_text import grounds, painted_columns, shown
from views import NOON_SECONDS, a_full_view


@pytest.fixture(autouse=True)
def _the_default_look_afterwards() -> Iterator[None]:
    """There is one terminal, so there is one look: the next test has the usual one."""
    yield
    use_theme(DEFAULT_THEME)


@pytest.mark.parametrize(
    "keys",
    [
        [],
        *(
            pytest.param(keys, marks=pytest.mark.slow)
            for keys in (["0"], ["2", "G", "enter"], ["enter"], ["p"], ["t"], ["slash"])
        ),
    ],
    ids=["overview", "all", "unattached", "layers", "process", "timeline", "filter"],
)
async def test_a_look_with_a_ground_of_its_own_paints_every_cell(keys: list[str]) -> None:
    app = GpuModelsApp(a_full_view(["a warning"]), clock=lambda: NOON_SECONDS, theme_name="light")
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        for key in keys:
            await pilot.press(key)
            await pilot.pause()
        assert painted_columns(app) == [80] * 24


@pytest.mark.parametrize("theme_name", [name for name, screen_theme in THEMES.items() if not screen_theme.theme.ansi])
async def test_a_theme_is_drawn_on_its_own_ground_with_its_own_keys_from_the_first(theme_name: str) -> None:
    app = GpuModelsApp(a_full_view(["a warning"]), clock=lambda: NOON_SECONDS, theme_name=theme_name)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert "q Quit" in shown(app)
        theme = THEMES[theme_name].theme
        assert grounds(app) == {theme.background, theme.foreground}  # the latter under the cursor's line
        assert theme.accent is not None
        assert theme.accent in app.export_screenshot()
