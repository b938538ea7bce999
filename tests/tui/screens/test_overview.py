"""The first screen: which device is chosen, what is listed of it, and what is said where there is nothing to list."""

from __future__ import annotations

import pytest

from apps import LARGE, SMALL, app_showing, chosen, has_keys, listed, on_screen, overview, pressed, selected, under_cursor
from gpumodels_shared.records import replace
from gpumodels_tui.screens.overview import OverviewScreen
from gpumodels_tui.view.rows import View
from gpumodels_tui.widgets.device_panel import DevicePanel
from gpumodels_tui.widgets.model_table import ModelTable
from screen_text import assert_looks_like, lines_shown, shown
from snapshots import GIB, WAN
from views import a_full_view, a_gpu, a_host, a_rank, a_row, a_view


async def test_the_overview_is_complete_at_80_by_24() -> None:
    app = app_showing(a_full_view(["one.gpm: empty file", "two.gpm: truncated"]))
    async with app.run_test(size=SMALL) as pilot:
        await pilot.pause()
        assert selected(app) == WAN
        assert_looks_like(app, "overview-80x24")


async def test_the_overview_uses_the_room_of_120_by_40() -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=LARGE) as pilot:
        await pilot.pause()
        assert selected(app) == WAN
        assert_looks_like(app, "overview-120x40")


async def test_sixty_columns_keep_the_columns_that_matter_most() -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=(60, 20)) as pilot:
        await pilot.pause()
        heading = next(line for line in lines_shown(app) if "name" in line)
        assert heading.split() == ["name", "kind", "on", "dev↓", "off", "dev", "process"]
        assert "38.0/80.0 GB" in shown(app)
        assert lines_shown(app)[-1].split()[-2:] == ["q", "Quit"]


async def test_without_a_sidecar_the_screen_says_where_it_looked_and_how_to_start_one() -> None:
    app = app_showing(a_view(a_gpu(), a_host(number=2), processes=0))
    async with app.run_test(size=SMALL) as pilot:
        await pilot.pause()
        text = shown(app)
        assert "/dev/shm/gpumodels-0" in text
        for way in (
            "import gpumodels; gpumodels.start()",
            "import gpumodels.auto",
            "gpumodels run your_script.py",
            "gpumodels demo",
        ):
            assert way in text
        assert "GPU 0" in text


async def test_a_device_without_models_names_the_devices_that_have_some() -> None:
    app = app_showing(a_view(a_gpu(), a_host(a_row("in-ram", device="cpu"), number=2)))
    async with app.run_test(size=SMALL) as pilot:
        await pilot.pause()
        assert chosen(app) == "host"
        await pressed(pilot, "1")
        assert "No models on GPU 0" in shown(app)
        assert "Host memory: 1 model" in shown(app)
        await pressed(pilot, "enter")
        assert on_screen(app, OverviewScreen)


@pytest.mark.slow
async def test_numbers_and_arrows_choose_a_device() -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=SMALL) as pilot:
        await pilot.pause()
        for key, expected in [
            ("2", "gpu:1"),
            ("3", "host"),
            ("1", "gpu:0"),
            ("right", "gpu:1"),
            ("l", "host"),
            ("right", "host"),
        ]:
            await pressed(pilot, key)
            assert chosen(app) == expected
        for key, expected in [("left", "gpu:1"), ("left", "gpu:0"), ("left", "gpu:0")]:
            await pressed(pilot, key)
            assert chosen(app) == expected


@pytest.mark.slow
async def test_more_devices_than_fit_scroll_to_the_chosen_one() -> None:
    app = app_showing(a_view(*(a_gpu(a_row(f"model-{index}"), index=index) for index in range(16)), a_host(number=17)))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, *["right"] * 12)
        assert chosen(app) == "gpu:12"
        assert "model-12" in shown(app)
        chosen_lines = [line for line in lines_shown(app) if line.startswith(">")]
        assert "GPU 12 " in chosen_lines[0]
        assert "38.0 GB" in chosen_lines[0]


async def test_a_number_without_a_device_does_nothing_and_is_greyed() -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "9")
        assert chosen(app) == "gpu:0"
        active = app.screen.active_bindings
        assert not active["9"].enabled
        assert active["3"].enabled


async def test_the_choice_of_a_device_stays_while_views_come_and_falls_back_when_it_goes() -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "2")
        app.receive(replace(a_full_view(), devices=tuple(replace(device, used_bytes=GIB) for device in a_full_view().devices)))
        await pilot.pause()
        assert chosen(app) == "gpu:1"
        app.receive(a_view(a_full_view().devices[0]))
        await pilot.pause()
        assert chosen(app) == "gpu:0"


async def test_until_someone_chooses_the_first_device_with_models_is_shown() -> None:
    empty, busy = a_gpu(index=0), a_gpu(a_row(), index=1)
    app = app_showing(a_view(empty, a_gpu(index=1)))
    async with app.run_test(size=SMALL) as pilot:
        await pilot.pause()
        assert chosen(app) == "gpu:0"
        app.receive(a_view(empty, busy))
        await pilot.pause()
        assert chosen(app) == "gpu:1"
        app.receive(a_view(a_gpu(a_row(), index=0), busy))
        await pilot.pause()
        assert chosen(app) == "gpu:1"


async def test_a_click_on_a_device_chooses_it() -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=SMALL) as pilot:
        await pilot.pause()
        await pilot.click("DevicePanel", offset=(5, 1))
        await pilot.pause()
        assert chosen(app) == "gpu:1"
        await pilot.click("DevicePanel", offset=(50, 2))
        await pilot.pause()
        assert chosen(app) == "host"


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


async def test_a_device_without_models_does_not_take_the_keys_from_the_list() -> None:
    app = app_showing(a_view(a_gpu(a_row("first"), a_row("second", GIB)), a_gpu(index=1)))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "2")
        assert "No models on GPU 1" in shown(app)
        await pressed(pilot, "1", "down")
        assert under_cursor(app) == "second"


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"is_lost": True, "state": "lost", "used_bytes": None}, "lost"),
        ({"shares_host_memory": True, "state": "shared with the host"}, "shared with the host"),
    ],
)
async def test_of_a_device_whose_rest_is_not_known_to_be_free_none_is(changes: dict[str, object], state: str) -> None:
    gpu = a_gpu(a_row())
    app = app_showing(a_view(replace(gpu, **changes), a_host(number=2)))
    async with app.run_test(size=LARGE) as pilot:
        await pilot.pause()
        title, legend = lines_shown(app)[3:5]
        assert title.endswith(f"1 model, 2.0 GB  {state}")
        assert "models 2.0 GB" in legend
        assert "free" not in legend
        app.receive(a_view(gpu, a_host(number=2)))
        await pilot.pause()
        assert "free" in lines_shown(app)[4]


async def test_a_lost_device_without_models_says_that_it_is_lost() -> None:
    gpu = replace(a_gpu(), is_lost=True, state="lost", used_bytes=None)
    app = app_showing(a_view(gpu, a_host(a_row(device="cpu"), number=2)))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "1")
        assert f"No models on {gpu.title}, which is lost." in shown(app)


def a_job() -> View:
    """A model in four ranks on four GPUs, and another one."""
    gpus = [a_gpu(a_rank(rank, (20 + 3 * (rank == 3)) * GIB), index=rank) for rank in range(4)]
    return a_view(*gpus[:3], a_gpu(*gpus[3].models, a_row("other", GIB), index=3), processes=4)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (60, 20)])
async def test_ranks_of_one_job_are_one_row_that_unfolds_and_shows_how_unequal_they_are(size: tuple[int, int]) -> None:
    app = app_showing(a_job())
    async with app.run_test(size=size) as pilot:
        await pilot.press("0")
        await pilot.pause()
        screen = shown(app)
        assert "All devices  2 models, 84.0 GB" in screen
        assert "+15 %" in screen
        assert "Llama (4 ranks, +15 %)" in screen
        assert "rank 0" not in screen
        await pilot.press("enter")
        await pilot.pause()
        assert all(f"rank {rank}  Llama" in shown(app) for rank in range(4))
        assert "All devices  2 models, 84.0 GB" in shown(app)
        await pilot.press("enter")
        await pilot.pause()
        assert "rank 1  Llama" not in shown(app)


async def test_the_facts_of_a_job_are_those_of_all_its_ranks_and_a_chosen_rank_is_unfolded() -> None:
    app = app_showing(a_job())
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("0", "i")
        await pilot.pause()
        assert "20.0 GB to 23.0 GB each" in shown(app)
        await pilot.press("i")
        screen = app.screen
        assert isinstance(screen, OverviewScreen)
        screen.choose("gpu:2", "Llama 2")
        await pilot.pause()
        assert screen.entry is not None
        assert (screen.entry.row is not None and screen.entry.row.key) == "Llama 2"
