"""The screens on a recording: they say so, whatever is open, and every key does what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpumodels_shared.schema import Model
from gpumodels_tui.recording.reading import read_recording
from gpumodels_tui.replaying.player import Player
from gpumodels_tui.replaying.replay_app import ReplayApp
from gpumodels_tui.screens.timeline import TimelineScreen
from recordings import a_recording, holding
from screen_text import shown
from snapshots import GIB, a_feed, a_model, a_process_state, a_snapshot, a_tree

pytestmark = pytest.mark.usefixtures("universal_time")
MOMENTS = [(0, holding("a")), (10, holding("a", "b")), (400, holding("b")), (410, holding("c"))]


@pytest.fixture(autouse=True)
def _a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one, an application that shows more than a hand-made view ends its process."""
    monkeypatch.setattr("gpumodels_tui.app.is_gone", lambda: False)


def an_app(path: Path, *, at_its_end: bool = True, timeline: bool = False) -> tuple[ReplayApp, Player]:
    player = Player(read_recording([path]), at_its_end=at_its_end)
    return ReplayApp(player, "r.ndjson.gz", view=player.view_now(), starts_with_timeline=timeline), player


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (60, 10)])
async def test_every_screen_says_that_it_is_a_replay_and_of_when(tmp_path: Path, size: tuple[int, int]) -> None:
    app, _ = an_app(a_recording(tmp_path / "r", MOMENTS))
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        for keys in ((), ("t",), ("escape", "p"), ("escape", "enter")):
            await pilot.press(*keys)
            await pilot.pause()
            assert "REPLAY  2026-05-28 20:33:30  at its end" in shown(app), keys
        await pilot.press("question_mark")
        await pilot.pause()
        assert "REPLAY: Keys" in shown(app)
        assert "Go back or forwards by 10 s" in shown(app)


async def test_each_key_does_what_it_says(tmp_path: Path) -> None:
    app, player = an_app(a_recording(tmp_path / "r", MOMENTS))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        assert "Space Pause" in shown(app)

        def at() -> str:
            text = shown(app)
            return text[text.index("REPLAY") + 19 :][:8]

        for key, time in (
            ("comma", "20:33:20"),
            ("left_parenthesis", "20:28:20"),
            ("full_stop", "20:28:30"),
            ("right_parenthesis", "20:33:30"),
            ("E", "20:33:20"),
            ("E", "20:26:50"),
            ("e", "20:33:20"),
        ):
            await pilot.press(key)
            await pilot.pause()
            assert at() == time, key
        await pilot.press("plus", "plus")
        assert player.speed == 4
        await pilot.press("minus")
        assert player.speed == 2
        assert "paused" in shown(app)
        await pilot.press("space")
        await pilot.pause()
        assert "2×" in shown(app)
        assert "paused" not in shown(app)
        await pilot.press("space")
        assert player.is_paused
        player.go_to(player.recording.begun_at_ns)
        await pilot.press("E", "E")
        await pilot.pause()
        assert "There is no earlier event." in shown(app)


async def test_the_screens_follow_the_position_with_its_time(tmp_path: Path) -> None:
    app, player = an_app(a_recording(tmp_path / "r", MOMENTS))
    async with app.run_test(size=(120, 40)) as pilot:
        player.go_to(player.recording.begun_at_ns)
        app.receive(player.view_now())
        await pilot.pause()
        text = shown(app)
        assert ">█ a " in text
        assert "2m" in text  # it was loaded two minutes before that time


async def test_the_history_opens_with_the_timeline(tmp_path: Path) -> None:
    app, _ = an_app(a_recording(tmp_path / "r", MOMENTS), timeline=True)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.pause()
        assert isinstance(app.screen, TimelineScreen)
        assert "unloaded" in shown(app)


async def test_layers_that_were_not_recorded_are_said_to_be(tmp_path: Path) -> None:
    def model(size: int) -> Model:
        return a_model("a", GIB, tree=a_tree({"blocks.0": size}))

    moments = [(seconds, a_feed(a_process_state(a_snapshot(model(size))))) for seconds, size in ((0, 1), (2, 2))]
    app, player = an_app(a_recording(tmp_path / "r", moments))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("enter")
        await pilot.pause()
        assert "The layers of this model at this time were not recorded." in shown(app)
        player.go_to(player.recording.begun_at_ns)
        app.receive(player.view_now())
        await pilot.pause()
        assert "blocks" in shown(app)
