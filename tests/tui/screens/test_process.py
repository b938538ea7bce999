"""One process: facts, bars and models share the lines there are."""

from __future__ import annotations

import dataclasses

import pytest

from apps import SMALL, app_showing, has_keys, listed, on_screen, pressed, until_shown
from gpumodels_shared.records import replace
from gpumodels_tui.app import GpuModelsApp
from gpumodels_tui.screens.layers import LayersScreen
from gpumodels_tui.screens.overview import OverviewScreen
from gpumodels_tui.screens.process import ProcessScreen
from gpumodels_tui.widgets.facts_panel import FactsPanel
from gpumodels_tui.widgets.model_table import ModelTable
from screen_text import assert_looks_like, lines_shown, shown
from snapshots import WAN
from views import a_full_view, a_gpu, a_host, a_row, a_view, an_unattached

pytestmark = pytest.mark.usefixtures("universal_time")


def names(app: GpuModelsApp) -> list[str]:
    return [entry.name for entry in app.screen.query_one(ModelTable).rows]


@pytest.mark.parametrize(
    "size",
    [
        (60, 10),
        (80, 24),
        *(pytest.param(size, marks=pytest.mark.slow) for size in ((60, 16), (80, 12), (120, 40), (200, 60))),
    ],
)
async def test_title_facts_bars_models_and_keys_are_on_every_screen(size: tuple[int, int]) -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=size) as pilot:
        await pressed(pilot, "p")
        lines = lines_shown(app)
        assert lines[0].strip() == "ComfyUI/main.py 4711"
        assert lines[1].split() == ["command", "python", "main.py"]
        assert sum("models" in line for line in lines) >= 1  # a bar's legend
        assert any(line.startswith(f">█ {WAN}") for line in lines)
        assert lines[-1].endswith("q Quit")


async def test_a_devices_title_is_one_line_however_narrow_the_screen() -> None:
    app = app_showing(a_view(a_gpu(a_row(), title="GPU 0  " + "a very long name of a GPU " * 5), a_host(number=2)))
    async with app.run_test(size=(60, 24)) as pilot:
        await pressed(pilot, "p")
        lines = lines_shown(app)
        title = next(number for number, line in enumerate(lines) if "a very long name" in line)
        assert lines[title].endswith("…  3.0 GB of 80.0 GB")
        assert set(lines[title + 1].strip()) <= set("█▓▒░:/·─")


async def test_its_models_are_sorted_by_keys_and_titles_like_those_of_the_overview() -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "p")
        assert names(app)[:2] == [WAN, "MyLoRA"]
        await pressed(pilot, "s", "s")
        assert "name↑" in shown(app)
        assert names(app) == ["umt5-xxl-enc", "VACE-Depth", WAN, "MyLoRA", WAN, "wan_2.1_vae"]
        await pressed(pilot, "r")
        assert names(app)[0] == "wan_2.1_vae"
        heading = next(line for line in lines_shown(app) if "name↓" in line)
        await pilot.click(ModelTable, offset=(heading.index("kind"), 0))
        await pilot.pause()
        assert "kind↑" in shown(app)


async def test_the_facts_scroll_while_the_keys_are_for_them() -> None:
    view = a_full_view()
    state = view.process_rows[0].state
    assert state is not None
    assert state.snapshot is not None
    warned = replace(
        state, snapshot=dataclasses.replace(state.snapshot, warnings=tuple(f"warning {number}" for number in range(20)))
    )
    app = app_showing(replace(view, process_rows=(replace(view.process_rows[0], state=warned),)))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "p")
        assert "warning 19" not in shown(app)
        await pressed(pilot, "tab", "end")
        assert "warning 19" in shown(app)
        await pressed(pilot, "tab")
        assert app.screen.query_one(FactsPanel).scroll_y == 0
        assert "command" in shown(app)


async def test_a_process_without_a_sidecar_has_no_empty_list() -> None:
    app = app_showing(a_view(a_gpu(a_row(), unattached=[an_unattached()]), a_host(number=2)))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "G", "enter")
        text = shown(app)
        assert "Its models are unknown: no sidecar runs in this process." in text
        assert "on dev" not in text
        await pressed(pilot, "escape")
        assert not isinstance(app.screen, ProcessScreen)


async def test_models_that_come_later_take_the_keys() -> None:
    idle = a_full_view()
    nothing = replace(idle, devices=tuple(replace(device, models=()) for device in idle.devices))
    app = app_showing(idle)
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "p")
        app.receive(nothing)
        await until_shown(pilot, app, "It holds no models now")
        app.receive(idle)
        await until_shown(pilot, app, WAN)
        await pressed(pilot, "end")
        assert app.screen.query_one(ModelTable).cursor_row is app.screen.query_one(ModelTable).rows[-1]


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
