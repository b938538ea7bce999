"""A box that asks a process: what it shows before, instead of, and without an answer."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable

from apps import SMALL, app_showing, pressed
from gpumodels_tui.screens.asking_box import AskingBox
from gpumodels_tui.sources.asking import NoAnswerError
from screen_text import shown
from snapshots import a_process, a_process_state, a_snapshot
from views import a_view


class Slow(AskingBox):
    """Answers once it is told to."""

    def __init__(self, answers: bool = True, error: str = "") -> None:
        process = dataclasses.replace(a_process(), answers=answers)
        super().__init__("Asked", a_process_state(a_snapshot(process=process)), "o")
        self.go = threading.Event()
        self.error = error

    def answer(self, searching: Callable[[float], None]) -> list[str]:
        """Wait, then answer."""
        searching(0.025)
        self.go.wait(5)
        if self.error:
            raise NoAnswerError(self.error)
        return ["the answer [red]as it is[/red]"]


async def test_it_says_what_it_will_cost_and_then_the_answer() -> None:
    app, box = app_showing(a_view()), Slow()
    async with app.run_test(size=SMALL) as pilot:
        await app.push_screen(box)
        while "about 25 ms" not in shown(app):
            await pilot.pause()
        box.go.set()
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert "the answer [red]as it is[/red]" in shown(app)


async def test_closed_before_the_answer_it_shows_nothing_more() -> None:
    app, box = app_showing(a_view()), Slow()
    async with app.run_test(size=SMALL) as pilot:
        await app.push_screen(box)
        await pressed(pilot, "o")
        box.go.set()
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert "the answer" not in shown(app)
        assert len(app.screen_stack) == 1


async def test_without_an_answer_it_says_why() -> None:
    app, box = app_showing(a_view()), Slow(error="no answer in 15 s")
    async with app.run_test(size=SMALL) as pilot:
        box.go.set()
        await app.push_screen(box)
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert "No answer in 15 s." in shown(app)


async def test_who_does_not_answer_is_not_asked() -> None:
    app, box = app_showing(a_view()), Slow(answers=False)
    async with app.run_test(size=SMALL) as pilot:
        await app.push_screen(box)
        await pilot.pause()
        assert "GPUMODELS_ASK=0" in shown(app)
