"""The application: views come in, screens follow, keys do what the help says, on whatever screen they are pressed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

import pytest
from textual.drivers.headless_driver import HeadlessDriver

from apps import LARGE, SMALL, app_showing, pressed
from gpumodels_shared.records import replace
from gpumodels_tui.app import INTERVALS, GpuModelsApp, ViewChanged
from gpumodels_tui.clipboard import SENT
from gpumodels_tui.sources.feed import user_name
from gpumodels_tui.sources.opening import Sources
from gpumodels_tui.theme import DEFAULT_THEME, STYLES, THEMES
from gpumodels_tui.tty.picture import Picture
from gpumodels_tui.view.filters import Filters
from gpumodels_tui.view.rows import DeviceRow, View
from gpumodels_tui.watching import WatchingThread
from gpumodels_tui.widgets.keys_line import KeysLine
from gpumodels_tui.widgets.model_table import ModelTable
from screen_text import assert_looks_like, lines_shown, shown
from snapshots import GIB, MIB, WAN
from views import (
    NOON_SECONDS,
    a_full_view,
    a_gpu,
    a_host,
    a_live_process,
    a_row,
    a_small_model,
    a_view,
    a_view_with_a_past,
    an_unattached,
    models,
)


async def test_only_the_newest_of_waiting_views_is_drawn() -> None:
    older, newer = ViewChanged(models(a=GIB)), ViewChanged(models(b=GIB))
    assert older.can_replace(newer)
    app = app_showing(a_full_view())
    async with app.run_test(size=SMALL) as pilot:
        for size in range(1, 50):
            app.receive(models(unet=size * GIB))
        await pilot.pause()
        assert "49.0 GB" in shown(app)


@pytest.mark.parametrize("keys", [[], ["enter"]])
async def test_the_footer_shows_seven_keys_at_most(keys: list[str]) -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, *keys)
        offered = {active.binding.action for active in app.screen.active_bindings.values() if active.binding.show}
        assert 3 <= len(offered) <= 7


@pytest.mark.slow
@pytest.mark.parametrize(
    "keys", [["q"], ["ctrl+c"], ["ctrl+q"], ["enter", "q"], ["question_mark", "q"], ["enter", "i", "ctrl+c"]]
)
async def test_quitting_works_from_everywhere(keys: list[str]) -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, *keys)
    assert app.return_value == 0


class CountingDriver(HeadlessDriver):
    """A terminal that keeps what it is sent."""

    written: ClassVar[list[str]] = []
    picture: ClassVar[Picture]

    @property
    def is_headless(self) -> bool:
        return False

    def write(self, data: str) -> None:
        self.written.append(self.picture.update(data))


def taken_bytes() -> int:
    """What the terminal was sent since the last time."""
    count = len("".join(CountingDriver.written).encode())
    CountingDriver.written.clear()
    return count


@pytest.fixture(autouse=True)
def blank_terminal() -> None:
    """Begin with a terminal that shows nothing."""
    CountingDriver.picture = Picture(0, 0)
    CountingDriver.picture.forget(*LARGE)


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
async def test_a_second_of_a_busy_server_is_at_most_75_bytes() -> None:
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
        assert 0 < taken_bytes() / seconds <= 75


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


async def test_the_interval_that_was_chosen_stands_among_those_that_the_keys_go_through() -> None:
    watching = WatchingThread(Sources(), 3.0)
    app = GpuModelsApp(watching=watching)
    async with app.run_test(size=SMALL) as pilot:
        for key, seconds in (("plus", 5), ("minus", 3), ("minus", 2)):
            await pressed(pilot, key)
            assert f"refreshes every {seconds} s" in shown(app)
            assert watching.interval_seconds == seconds


async def test_y_sends_the_path_of_the_models_file_to_the_clipboard_and_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not known to arrive: tmux (3.3a, `set-clipboard external`) and GNU screen drop what applications copy."""
    monkeypatch.setenv("TMUX", "/tmp/tmux-0/default,1,0")
    app = app_showing(a_full_view())
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "y")
        path = f"/srv/models/diffusion_models/wan/{WAN}_bf16.safetensors"
        assert app.clipboard == path
        lines = [line.strip() for line in lines_shown(app)]
        sent = lines.index(SENT)
        assert "set -g set-clipboard on" in lines[sent + 1]
        assert lines[sent + 2] == path
        assert "copied" not in shown(app)
        await pressed(pilot, "y")
        assert "set-clipboard" not in shown(app), "said once"
        assert path in shown(app)
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


@pytest.mark.parametrize("theme_name", THEMES)
async def test_every_theme_shows_the_same(theme_name: str) -> None:
    app = app_showing(a_full_view(), theme_name=theme_name)
    async with app.run_test(size=SMALL) as pilot:
        await pilot.pause()
        assert STYLES.theme.theme.name == theme_name
        assert_looks_like(app, "looks-80x24", drawn=False)
    app.apply_theme(DEFAULT_THEME)


@pytest.mark.slow
async def test_the_palette_changes_the_look_of_all_screens() -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "enter", "ctrl+p", *"theme light", "enter")
        assert app.theme == "light"
        assert app.export_screenshot().count("#0b6e7a") > 0
        app.apply_theme(DEFAULT_THEME)


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


async def test_filters_are_visible_on_every_list_and_can_be_cleared_and_set_again() -> None:
    view = a_view(a_gpu(a_row("one", kind="lora"), a_row("two", kind="vae"), unattached=[an_unattached()]))
    app = GpuModelsApp(view, clock=lambda: NOON_SECONDS, filters=Filters(kinds=("vae",)))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        for key, back in (("t", "escape"), ("", "")):
            await pilot.press(*filter(None, [key]))
            await pilot.pause()
            assert "Only kind vae; F shows all" in shown(app)
            await pilot.press(*filter(None, [back]))
        assert "two" in shown(app)
        assert "one" not in shown(app)
        await pilot.press("F")
        await pilot.pause()
        assert "one" in shown(app)
        assert "python serve.py" in shown(app)
        assert "Only" not in shown(app)
        await pilot.press("F")
        await pilot.pause()
        assert "Only kind vae" in shown(app)
        app.receive(a_view(a_gpu(a_row("three", kind="lora"))))
        await pilot.pause()
        assert "Nothing on GPU 0  Simulated H100 80GB matches kind vae." in shown(app)
        await pilot.press("F")
        await pilot.pause()
        assert "three" in shown(app)


async def test_u_goes_from_everybody_to_me_and_to_each_other_user() -> None:
    me = user_name(os.geteuid())
    rows = [replace(a_row(name), process_state=replace(a_live_process(), user=name, key=name)) for name in ("zoe", me)]
    view = replace(a_view(a_gpu(*rows)), processes=tuple(row.process_state for row in rows))
    app = GpuModelsApp(view, clock=lambda: NOON_SECONDS)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        seen = []
        for _ in range(3):
            await pilot.press("u")
            await pilot.pause()
            listed = [] if app.view is None else [row.name for device in app.view.devices for row in device.models]
            seen.append((listed, "Only user" in shown(app)))
        assert seen == [([me], True), (["zoe"], True), (["zoe", me], False)]


async def test_one_model_and_one_process_are_shown_whatever_the_filters_leave() -> None:
    """What a filter hides must not be said to be unloaded, or ended."""
    view = a_view(a_gpu(a_small_model(), a_row("other", kind="vae")))
    app = GpuModelsApp(view, clock=lambda: NOON_SECONDS, filters=Filters(names=("small",)))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("enter")
        await pilot.pause()
        app.receive(a_view(a_gpu(replace(a_small_model(), name="renamed"), a_row("other", kind="vae"))))
        await pilot.pause()
        assert "Unloaded" not in shown(app)
        assert "renamed" in shown(app)
        await pilot.press("p")
        await pilot.pause()
        assert "Ended" not in shown(app)
        assert "other" in shown(app)
        await pilot.press("u", "F")
        await pilot.pause()
        assert app.view is not None
        assert app.view.filtered_by == "name small", "keys of lists say nothing here"


async def test_keys_of_filters_do_nothing_without_other_users_and_filters() -> None:
    app = GpuModelsApp(a_view(a_gpu(a_row())), clock=lambda: NOON_SECONDS)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        before = shown(app)
        await pilot.press("u", "F")
        await pilot.pause()
        assert shown(app) == before
