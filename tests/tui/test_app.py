"""The application: views come in, screens follow, keys do what the help says."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import ClassVar

import pytest
from msgspec.structs import replace
from rich.cells import cell_len
from textual.drivers.headless_driver import HeadlessDriver
from textual.events import MouseScrollDown, MouseScrollUp
from textual.pilot import Pilot

from gpumodels_tui.app import GpuModelsApp, ViewChanged
from gpumodels_tui.screens.layers import LayersScreen
from gpumodels_tui.screens.overview import OverviewScreen
from gpumodels_tui.screens.text_screen import TextScreen
from gpumodels_tui.screens.view_screen import ViewScreen
from gpumodels_tui.view.events import Event, EventKind, History
from gpumodels_tui.view.rows import DeviceRow, View
from gpumodels_tui.widgets.keys_line import KeysLine
from gpumodels_tui.widgets.line_table import WHEEL_LINES
from gpumodels_tui.widgets.model_table import ModelTable
from screen_text import assert_looks_like, lines_shown, shown
from snapshots import GIB, MIB, NOON_NS, WAN
from views import NOON_SECONDS, a_full_view, a_gpu, a_host, a_row, a_view

SMALL = (80, 24)
LARGE = (120, 40)


def app_showing(view: View, clock: Callable[[], float] = lambda: NOON_SECONDS) -> GpuModelsApp:
    return GpuModelsApp(view, clock=clock)


def overview(app: GpuModelsApp) -> OverviewScreen:
    screen = app.screen_stack[0]
    assert isinstance(screen, OverviewScreen)
    return screen


def is_overview(app: GpuModelsApp) -> bool:
    return isinstance(app.screen, OverviewScreen)


def selected(app: GpuModelsApp) -> str | None:
    row = overview(app).model
    return None if row is None else row.name


def chosen(app: GpuModelsApp) -> str | None:
    device = overview(app).device
    return None if device is None else device.key


def models(**sizes: int) -> View:
    rows = [a_row(name, size) for name, size in sizes.items()]
    return a_view(a_gpu(*sorted(rows, key=lambda row: -row.on_bytes)))


def many_models(count: int) -> View:
    return a_view(a_gpu(*(a_row(f"model-{number:02d}", (count - number) * GIB) for number in range(count))))


async def pressed(pilot: Pilot[int], *keys: str) -> None:
    await pilot.press(*keys)
    await pilot.pause()


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


@pytest.mark.parametrize("size", [(59, 24), (80, 9), (20, 4)])
async def test_a_terminal_that_is_too_small_is_told_so_in_one_line(size: tuple[int, int]) -> None:
    app = app_showing(a_full_view(["a warning"]))
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        lines = [line for line in lines_shown(app) if line]
        assert len(lines) == 1
        assert lines[0].startswith(f"{size[0]}×{size[1]} is too small")
        await pilot.resize_terminal(*SMALL)
        await pilot.pause()
        assert WAN in shown(app)


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
        assert is_overview(app)


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
        for key, expected in [("left", "gpu:1"), ("h", "gpu:0"), ("left", "gpu:0")]:
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


@pytest.mark.slow
async def test_keys_move_the_cursor() -> None:
    app = app_showing(many_models(40))
    async with app.run_test(size=SMALL) as pilot:
        await pilot.pause()
        steps = {"down": 1, "j": 2, "up": 1, "k": 0, "end": 39, "home": 0, "G": 39, "g": 0}
        for key, position in steps.items():
            await pressed(pilot, key)
            assert selected(app) == f"model-{position:02d}"
            assert re.search(rf"^>. model-{position:02d}", shown(app), re.MULTILINE)
        await pressed(pilot, "up")
        assert selected(app) == "model-00"


async def test_page_keys_move_by_a_screenful() -> None:
    app = app_showing(many_models(60))
    async with app.run_test(size=SMALL) as pilot:
        await pilot.pause()
        rows = app.screen.query_one(ModelTable).visible_rows
        await pressed(pilot, "pagedown")
        assert selected(app) == f"model-{rows - 1:02d}"
        await pressed(pilot, "pagedown", "pageup", "pageup")
        assert selected(app) == "model-00"


async def test_the_cursor_follows_its_model_when_the_order_changes() -> None:
    app = app_showing(models(unet=6 * GIB, vae=1 * GIB))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "down")
        assert selected(app) == "vae"
        app.receive(models(unet=6 * GIB, vae=9 * GIB))
        await pilot.pause()
        assert selected(app) == "vae"
        app.receive(models(unet=6 * GIB, vae=9 * GIB, llm=40 * GIB))
        await pilot.pause()
        assert selected(app) == "vae"
        app.receive(models(unet=6 * GIB, llm=40 * GIB))
        await pilot.pause()
        assert selected(app) in {"unet", "llm"}


async def test_only_the_newest_of_waiting_views_is_drawn() -> None:
    older, newer = ViewChanged(models(a=GIB)), ViewChanged(models(b=GIB))
    assert older.can_replace(newer)
    app = app_showing(a_full_view())
    async with app.run_test(size=SMALL) as pilot:
        for size in range(1, 50):
            app.receive(models(unet=size * GIB))
        await pilot.pause()
        assert "49.0 GB" in shown(app)


@pytest.mark.slow
async def test_help_lists_the_keys_of_the_screen_it_was_asked_on() -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "question_mark")
        assert isinstance(app.screen, TextScreen)
        text = shown(app)
        assert "Up and Down scroll" in text
        for _ in range(4):
            await pressed(pilot, "pagedown")
            text += shown(app)
        for said in ("1-9", "Choose a device", "G", "First or last row", "Quit", "Open the model", "Optimizer state"):
            assert said in text
        await pressed(pilot, "escape", "enter", "question_mark")
        assert "Unfold or fold the layer" in shown(app)
        assert "Choose a device" not in shown(app)
        await pressed(pilot, "question_mark")
        assert isinstance(app.screen, LayersScreen)


async def test_every_key_that_has_a_meaning_is_in_the_help() -> None:
    app = app_showing(a_full_view(["a warning"]))
    async with app.run_test(size=(100, 70)) as pilot:  # tall, and too narrow for two columns: all in one
        await pilot.pause()
        meanings = {active.binding.tooltip for active in app.screen.active_bindings.values() if active.binding.id}
        await pressed(pilot, "question_mark")
        text = " ".join(shown(app).split())
        assert [meaning for meaning in meanings if meaning and meaning not in text] == []


@pytest.mark.parametrize("keys", [[], ["enter"]])
async def test_the_footer_shows_seven_keys_at_most(keys: list[str]) -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, *keys)
        offered = {active.binding.action for active in app.screen.active_bindings.values() if active.binding.show}
        assert 3 <= len(offered) <= 7


@pytest.mark.slow
async def test_warnings_are_counted_and_w_lists_them() -> None:
    app = app_showing(a_full_view(["a.gpm: [bold]empty[/] file"]))
    async with app.run_test(size=SMALL) as pilot:
        await pilot.pause()
        assert "1 warning: w" in shown(app)
        await pressed(pilot, "w")
        assert isinstance(app.screen, TextScreen)
        assert "a.gpm: [bold]empty[/] file" in shown(app)
        await pressed(pilot, "w")
        assert is_overview(app)
        app.receive(a_full_view())
        await pilot.pause()
        assert "warning" not in shown(app)
        await pressed(pilot, "w")
        assert is_overview(app)


@pytest.mark.slow
async def test_a_long_list_of_warnings_scrolls() -> None:
    app = app_showing(a_full_view([f"{number}.gpm: empty file" for number in range(200)]))
    async with app.run_test(size=(80, 12)) as pilot:
        await pressed(pilot, "w")
        assert "• 0.gpm" in shown(app)
        await pressed(pilot, "G")
        assert "• 199.gpm" in shown(app)
        await pressed(pilot, "g", "pagedown", "j")
        assert "• 0.gpm" not in shown(app)
        for key, first in {"home": 0, "down": 1, "j": 2, "up": 1, "k": 0, "pagedown": 10, "pageup": 0}.items():
            await pressed(pilot, key)
            assert next(line for line in lines_shown(app) if "• " in line).split("• ")[1].startswith(f"{first}.gpm")


@pytest.mark.slow
@pytest.mark.parametrize(
    "keys", [["q"], ["ctrl+c"], ["ctrl+q"], ["enter", "q"], ["question_mark", "q"], ["enter", "i", "ctrl+c"]]
)
async def test_quitting_works_from_everywhere(keys: list[str]) -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, *keys)
    assert app.return_value == 0


@pytest.mark.slow
async def test_a_click_selects_a_double_click_opens_and_the_wheel_scrolls() -> None:
    app = app_showing(many_models(60))
    async with app.run_test(size=SMALL) as pilot:
        await pilot.pause()
        table = app.screen.query_one(ModelTable)
        await pilot.click(ModelTable, offset=(10, 4))
        assert selected(app) == "model-03"
        await pilot.click(ModelTable, offset=(10, 0))
        assert selected(app) == "model-03"
        for event in (MouseScrollDown, MouseScrollDown, MouseScrollUp):
            table.post_message(event(table, 10, 5, 0, 0, 0, False, False, False))
        await pilot.pause()
        assert table.top_row == WHEEL_LINES
        assert selected(app) == "model-03"
        await pilot.click(ModelTable, offset=(10, 2), times=2)
        await pilot.pause()
        assert isinstance(app.screen, LayersScreen)


async def test_a_click_on_a_device_chooses_it() -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=SMALL) as pilot:
        await pilot.pause()
        await pilot.click("DeviceNames", offset=(5, 1))
        await pilot.pause()
        assert chosen(app) == "gpu:1"
        await pilot.click("DeviceReadings", offset=(5, 2))
        await pilot.pause()
        assert chosen(app) == "host"


class CountingDriver(HeadlessDriver):
    """A terminal that keeps what it is sent."""

    written: ClassVar[list[str]] = []

    @property
    def is_headless(self) -> bool:
        return False

    def write(self, data: str) -> None:
        self.written.append(data)


def taken_bytes() -> int:
    """What the terminal was sent since the last time."""
    count = len("".join(CountingDriver.written).encode())
    CountingDriver.written.clear()
    return count


def with_readings(view: View, second: int) -> View:
    """Every reading of every GPU is another one each second."""

    def changed(device: DeviceRow) -> DeviceRow:
        if device.utilization_percent is None:
            return replace(device, used_bytes=(device.used_bytes or 0) + second * 3 * MIB)
        return replace(
            device,
            used_bytes=(device.used_bytes or 0) + second * 100 * MIB,
            utilization_percent=50 + second,
            temperature_celsius=60 + second,
            power_watts=300.0 + second,
        )

    return replace(view, devices=tuple(changed(device) for device in view.devices))


def busy_server() -> View:
    rows = [a_row(f"model-{number:02d}", (20 - number) * GIB, age_seconds=100 + 7 * number) for number in range(20)]
    return a_view(a_gpu(*rows), a_gpu(index=1), a_host(number=3))


async def test_a_newer_history_is_news_for_the_timeline_alone() -> None:
    view = a_full_view()
    loaded = Event(1, NOON_NS, EventKind.LOADED, "newcomer", "vllm 1", "0", GIB, "newcomer")
    app = app_showing(view)
    async with app.run_test(size=SMALL) as pilot:
        await pilot.pause()
        drawn = app.screen.query_one(ModelTable).rows
        app.receive(replace(view, history=History((loaded,))))
        await pilot.pause()
        assert app.screen.query_one(ModelTable).rows is drawn
        await pressed(pilot, "t")
        assert "newcomer" in shown(app)
        app.receive(replace(view, history=History((replace(loaded, number=2, name="another"), loaded))))
        await pilot.pause()
        assert "another" in shown(app)


async def test_a_screen_that_missed_a_view_while_it_was_mounted_shows_it_once_it_is_there() -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "t")
        screen = app.screen
        assert isinstance(screen, ViewScreen)
        before = screen.view
        loaded = Event(1, NOON_NS, EventKind.LOADED, "newcomer", "vllm 1", "0", GIB, "newcomer")
        newer = replace(a_full_view(), history=History((loaded,)))
        app.set_reactive(GpuModelsApp.view, newer)  # nobody is told
        assert screen.view is before
        assert "newcomer" not in shown(app)
        screen.post_message(ViewScreen.Completed(screen))
        await pilot.pause()
        assert screen.view is newer
        assert "newcomer" in shown(app)


async def test_an_equal_view_sends_nothing_to_the_terminal() -> None:
    app = app_showing(busy_server())
    app.driver_class = CountingDriver
    async with app.run_test(headless=False, size=LARGE) as pilot:
        while not any(keys.children for keys in app.screen.query(KeysLine)):  # they come behind the first picture
            await pilot.pause(0.01)
        await pilot.pause()
        assert taken_bytes() > 1000
        await pilot.pause(0.1)
        while taken_bytes():  # what comes behind the first picture
            await pilot.pause(0.1)
        app.receive(busy_server())
        await pilot.pause(0.1)
        assert taken_bytes() == 0


@pytest.mark.slow
async def test_a_second_of_a_busy_server_is_at_most_300_bytes() -> None:
    now = [NOON_SECONDS]
    app = app_showing(busy_server(), clock=lambda: now[0])
    app.driver_class = CountingDriver
    async with app.run_test(headless=False, size=LARGE) as pilot:
        await pilot.pause()
        taken_bytes()
        seconds = 20
        for second in range(1, seconds + 1):
            now[0] += 1
            app.receive(with_readings(busy_server(), second))
            app.screen.query_one(ModelTable).redraw()
            await pilot.pause()
        assert 0 < taken_bytes() / seconds <= 300


async def test_wide_names_leave_the_columns_where_they_are() -> None:
    app = app_showing(a_view(a_gpu(a_row("模型名字很长很长很长很长很长很长🚀", 3 * GIB), a_row("plain", 3 * GIB))))
    async with app.run_test(size=SMALL) as pilot:
        await pilot.pause()
        rows = [line for line in lines_shown(app) if "3.0 GB" in line and "145" in line]
        assert len(rows) == 2
        assert len({cell_len(row[: row.index("3.0 GB")]) for row in rows}) == 1


@pytest.mark.slow
async def test_a_click_beside_a_box_closes_it_and_one_inside_does_not() -> None:
    app = app_showing(a_full_view(["a warning"]))
    async with app.run_test(size=SMALL) as pilot:
        for key in ("question_mark", "w", "ctrl+p"):
            await pressed(pilot, key)
            assert not is_overview(app)
            await pilot.click(offset=(40, 11))
            await pilot.pause()
            assert not is_overview(app)
            await pilot.click(offset=(0, 22))
            await pilot.pause()
            assert is_overview(app)


async def test_where_the_offload_bar_has_no_room_the_number_is_one() -> None:
    half = a_row("half", 6 * GIB, off_bytes=6 * GIB)
    app = app_showing(a_view(a_gpu(a_row("whole", 7 * GIB), half)))
    async with app.run_test(size=SMALL) as pilot:
        await pilot.pause()
        line = app.screen.query_one(ModelTable).render_line(2)
        inverted = "".join(segment.text for segment in line if segment.style is not None and segment.style.reverse)
        assert inverted == " 6."  # three of the seven columns of ` 6.0 GB`
        await pilot.resize_terminal(*LARGE)
        await pilot.pause()
        assert re.search(r"6\.0 GB (█+)░+ ", shown(app))
        line = app.screen.query_one(ModelTable).render_line(2)
        assert not any(segment.style is not None and segment.style.reverse for segment in line)
