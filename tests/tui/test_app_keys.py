"""Hands on the screens: filter, sort, panes, freezing, copying, pictures, the palette, processes, the timeline, looks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widget import Widget

from gpumodels_tui.app import INTERVALS, GpuModelsApp
from gpumodels_tui.screens.layers import LayersScreen
from gpumodels_tui.screens.overview import OverviewScreen
from gpumodels_tui.screens.palette import PaletteScreen
from gpumodels_tui.screens.process import ProcessScreen
from gpumodels_tui.screens.timeline import TimelineScreen
from gpumodels_tui.sources.opening import Sources
from gpumodels_tui.theme import DEFAULT_LOOK, LOOKS, STYLES
from gpumodels_tui.view.rows import View
from gpumodels_tui.watching import WatchingThread
from gpumodels_tui.widgets.device_panel import DevicePanel
from gpumodels_tui.widgets.facts_panel import FactsPanel
from gpumodels_tui.widgets.layer_table import LayerTable
from gpumodels_tui.widgets.model_table import ModelTable
from screen_text import assert_looks_like, shown
from snapshots import GIB, WAN, a_tree
from views import NOON_SECONDS, a_full_view, a_gpu, a_row, a_view, a_view_with_a_past

SMALL = (80, 24)
LARGE = (120, 40)
SECOND = 10**9


@pytest.fixture(autouse=True)
def _universal_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Times of day are the same everywhere."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def app_showing(view: View, look: str = DEFAULT_LOOK) -> GpuModelsApp:
    return GpuModelsApp(view, clock=lambda: NOON_SECONDS, look=look)


async def pressed(pilot: Pilot[int], *keys: str) -> None:
    await pilot.press(*keys)
    await pilot.pause()


def overview(app: GpuModelsApp) -> OverviewScreen:
    screen = app.screen_stack[0]
    assert isinstance(screen, OverviewScreen)
    return screen


def on_screen(app: GpuModelsApp, kind: type[Screen[Any]]) -> bool:
    return isinstance(app.screen, kind)


def has_keys(app: GpuModelsApp, kind: type[Widget]) -> bool:
    return isinstance(app.screen.focused, kind)


def listed(app: GpuModelsApp) -> list[str]:
    return [entry.name for entry in app.screen.query_one(ModelTable).rows]


def under_cursor(app: GpuModelsApp) -> str | None:
    entry = app.screen.query_one(ModelTable).cursor_row
    return None if entry is None else entry.name


async def test_zero_lists_all_devices_with_the_processes_that_have_no_sidecar() -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "0")
        assert listed(app).count(WAN) == 2
        assert "All devices  8 models" in shown(app)
        assert_looks_like(app, "all-devices-80x24", drawn=False)
        await pressed(pilot, "right")
        assert "GPU 0  Simulated H100 80GB  5 models" in shown(app)


@pytest.mark.slow
async def test_typing_filters_at_once_and_enter_keeps_and_escape_drops() -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "slash", "v", "a", "e")
        assert listed(app) == ["wan_2.1_vae"]
        await pressed(pilot, "enter")
        assert 'matching "vae"' in shown(app)
        await pressed(pilot, "enter")
        assert on_screen(app, LayersScreen)
        await pressed(pilot, "escape", "escape")
        assert len(listed(app)) == 5
        await pressed(pilot, "slash", "x", "y", "z")
        assert 'Nothing here has "xyz"' in shown(app)
        await pressed(pilot, "escape")
        assert len(listed(app)) == 5
        assert has_keys(app, ModelTable)


@pytest.mark.slow
async def test_a_filter_holds_while_views_come() -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "slash", "w", "a", "n", "enter")
        app.receive(a_view(a_gpu(a_row("wan-new", 3 * GIB), a_row("flux", 9 * GIB))))
        await pilot.pause()
        assert listed(app) == ["wan-new"]


@pytest.mark.slow
async def test_n_goes_through_the_matches_and_around() -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "slash", "l", "o", "r", "a", "enter")
        assert listed(app) == [WAN, "MyLoRA"]
        for key in ("n", "n", "N"):
            await pressed(pilot, key)
            assert under_cursor(app) == "MyLoRA"


async def test_s_and_f6_sort_by_the_next_thing_and_r_turns_it_around() -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "s")
        assert "age↑" in shown(app)
        assert listed(app)[0] == WAN  # its adapter is younger, and stands below it
        await pressed(pilot, "f6")
        assert "name↑" in shown(app)
        assert listed(app)[0] == "umt5-xxl-enc"
        await pressed(pilot, "r")
        assert "name↓" in shown(app)
        assert listed(app)[0] == "wan_2.1_vae"


async def test_less_and_greater_sort_by_the_column_beside() -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=LARGE) as pilot:
        await pressed(pilot, "greater_than_sign")
        assert "off dev↓" in shown(app)
        await pressed(pilot, "less_than_sign", "less_than_sign")
        assert "kind↑" in shown(app)


async def test_a_click_on_a_title_sorts_and_another_turns_the_order_around() -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=SMALL) as pilot:
        await pilot.pause()
        await pilot.click(ModelTable, offset=(6, 0))
        await pilot.pause()
        assert "name↑" in shown(app)
        await pilot.click(ModelTable, offset=(6, 0))
        await pilot.pause()
        assert "name↓" in shown(app)


@pytest.mark.slow
async def test_tab_goes_to_the_devices_where_arrows_choose_and_back() -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "tab")
        assert has_keys(app, DevicePanel)
        for key, index in {"down": "gpu:1", "j": "host", "k": "gpu:1", "home": "gpu:0", "G": "host", "g": "gpu:0"}.items():
            await pressed(pilot, key)
            device = overview(app).device
            assert device is not None
            assert device.key == index
        await pressed(pilot, "end", "up", "enter")
        assert has_keys(app, ModelTable)
        await pressed(pilot, "shift+tab", "tab", "down")
        assert under_cursor(app) == "all-MiniLM-L6-v2"


@pytest.mark.slow
async def test_a_frozen_picture_stays_and_goes_on_with_the_newest() -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "space")
        app.receive(a_view(a_gpu(a_row("newcomer"))))
        await pilot.pause()
        assert WAN in shown(app)
        assert "Frozen at" in shown(app)
        await pressed(pilot, "enter", "p")
        assert "Frozen at" in shown(app)
        await pressed(pilot, "escape", "escape", "space")
        assert listed(app) == ["newcomer"]
        assert "Frozen" not in shown(app)


@pytest.mark.slow
async def test_plus_and_minus_change_how_often_it_looks(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    watching = WatchingThread(Sources((tmp_path,)))
    app = GpuModelsApp(watching=watching)
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "plus")
        assert "refreshes every 2 s" in shown(app)
        await pressed(pilot, *["minus"] * len(INTERVALS))
        assert f"refreshes every {INTERVALS[0]:g} s" in shown(app)
    assert watching.interval_seconds == INTERVALS[0]


async def test_y_copies_the_path_of_the_models_file_and_says_so() -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "y")
        assert app.clipboard == f"/srv/models/diffusion_models/wan/{WAN}_bf16.safetensors"
        assert "copied /srv/models" in shown(app)
        await pressed(pilot, "down", "down", "y")
        assert "This model's file is not known" in shown(app)


async def test_a_capital_s_saves_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    app = app_showing(a_full_view())
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "S")
        (picture,) = tmp_path.glob("gpumodels-*.svg")
        assert "Wan2_2" in picture.read_text()
        assert "saved " in shown(app)


@pytest.mark.slow
async def test_the_palette_goes_to_any_model_by_its_name() -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "enter", "ctrl+p")
        assert on_screen(app, PaletteScreen)
        await pressed(pilot, *"minilm", "enter")
        assert on_screen(app, OverviewScreen)
        assert under_cursor(app) == "all-MiniLM-L6-v2"
        await pressed(pilot, "ctrl+p", "down", "pagedown", "pageup", "up", "escape")
        assert on_screen(app, OverviewScreen)
        await pressed(pilot, "ctrl+p", *"vllm process", "enter")
        assert on_screen(app, ProcessScreen)
        await pressed(pilot, "ctrl+p", *"timeline", "enter")
        assert on_screen(app, TimelineScreen)
        await pressed(pilot, "ctrl+p", *"nothing such", "enter")
        assert on_screen(app, TimelineScreen)


@pytest.mark.slow
async def test_p_shows_where_a_processes_memory_went() -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "p")
        assert on_screen(app, ProcessScreen)
        assert_looks_like(app, "process-80x24")
        await pressed(pilot, "tab")
        assert has_keys(app, FactsPanel)
        await pressed(pilot, "tab", "slash", *"vae", "enter")
        assert listed(app) == ["wan_2.1_vae"]
        await pressed(pilot, "enter")
        assert on_screen(app, LayersScreen)
        await pressed(pilot, "p")
        assert on_screen(app, ProcessScreen)
        await pressed(pilot, "p", "escape", "escape", "escape", "escape")
        assert on_screen(app, OverviewScreen)


@pytest.mark.slow
async def test_a_process_without_a_sidecar_opens_too_and_one_that_is_gone_says_so() -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "2", "G", "enter")
        assert on_screen(app, ProcessScreen)
        assert "not attached" in shown(app)
        assert "python serve.py" in shown(app)
        app.receive(a_view(a_gpu()))
        await pilot.pause()
        assert "Ended." in shown(app)
        assert "python serve.py" in shown(app)


@pytest.mark.slow
async def test_layers_are_filtered_with_what_they_are_in_and_sorted() -> None:
    tree = a_tree({"blocks.0.attn": 6, "blocks.0.ffn": 9, "blocks.1.ffn": 12, "head": 50}, device="cuda:0")
    app = app_showing(a_view(a_gpu(a_row("m", GIB, tree=tree))))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "enter", "slash", *"ffn", "enter")
        table = app.screen.query_one(LayerTable)

        def paths() -> list[str]:
            return [".".join(table.sums.path(layer)) for layer in table.rows]

        assert paths() == ["", "blocks", "blocks.0", "blocks.0.ffn", "blocks.1", "blocks.1.ffn"]
        await pressed(pilot, "n")
        assert table.cursor_row == table.rows[3]
        await pressed(pilot, "n")
        assert table.cursor_row == table.rows[5]
        await pressed(pilot, "N", "escape")
        assert on_screen(app, LayersScreen)
        assert paths() == ["", "head", "blocks"]
        await pressed(pilot, "s")
        assert paths() == ["", "blocks", "head"]
        await pressed(pilot, "r")
        assert paths() == ["", "head", "blocks"]
        await pressed(pilot, "f6")
        assert "their order in the model" in shown(app)
        await pressed(pilot, "tab")
        assert has_keys(app, FactsPanel)
        await pressed(pilot, "down", "j", "up", "k", "end", "G", "home", "g", "shift+tab")
        assert has_keys(app, LayerTable)


@pytest.mark.parametrize("look", LOOKS)
async def test_every_look_shows_the_same(look: str) -> None:
    app = app_showing(a_full_view(), look)
    async with app.run_test(size=SMALL) as pilot:
        await pilot.pause()
        assert STYLES.look.theme.name == look
        assert_looks_like(app, "looks-80x24", drawn=False)
    app.wear(DEFAULT_LOOK)


@pytest.mark.slow
async def test_the_palette_changes_the_look_of_all_screens() -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "enter", "ctrl+p", *"theme light", "enter")
        assert app.theme == "light"
        assert app.export_screenshot().count("#0b6e7a") > 0
        app.wear(DEFAULT_LOOK)


@pytest.mark.slow
async def test_every_binding_has_a_meaning_and_every_screen_at_most_seven_keys_in_the_footer() -> None:
    app = app_showing(a_view_with_a_past())
    async with app.run_test(size=LARGE) as pilot:
        for keys in ([], ["slash"], ["escape", "enter"], ["escape", "p"], ["escape", "t"]):
            await pressed(pilot, *keys)
            active = app.screen.active_bindings.values()
            assert len({one.binding.action for one in active if one.binding.show}) <= 7
            silent = {one.binding.key for one in active if one.binding.id and not one.binding.tooltip}
            assert silent <= set("23456789")  # `1-9` speaks for them


async def test_a_device_without_models_does_not_take_the_keys_from_the_list() -> None:
    app = app_showing(a_view(a_gpu(a_row("first"), a_row("second", GIB)), a_gpu(index=1)))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "2")
        assert "No models on GPU 1" in shown(app)
        await pressed(pilot, "1", "down")
        assert under_cursor(app) == "second"
