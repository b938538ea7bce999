"""The box that says who holds a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apps import SMALL, app_showing, pressed
from gpumodels_shared.records import replace
from gpumodels_tui.screens import holders_box
from gpumodels_tui.sources.asking import Chain, Found, NoAnswerError
from gpumodels_tui.view.rows import ModelRow
from screen_text import shown
from snapshots import GIB, a_process, a_process_state, a_snapshot
from views import a_gpu, a_row, a_view


def a_held_row(answers: bool = True) -> ModelRow:
    process = dataclasses.replace(a_process(), answers=answers)
    return replace(a_row("unet", GIB), process_state=a_process_state(a_snapshot(process=process)))


async def test_h_asks_once_and_shows_the_chains(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def answers(file: Path, model_id: str, searching: Callable[[float], None]) -> Found:
        asked.append((file, model_id))
        searching(0.025)
        return Found(chains=(Chain("global pipe[0] in __main__ (app.py).unet"),), visited=3, longest_hold_seconds=0.02)

    monkeypatch.setattr(holders_box, "ask_why", answers)
    app = app_showing(a_view(a_gpu(a_held_row())))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "h")
        await app.workers.wait_for_complete()
        await pilot.pause()
        text = " ".join(shown(app).replace("│", " ").split())
        assert "Who holds unet" in text
        assert "global pipe[0] in __main__ (app.py).unet" in text
        assert "20 ms at most" in text
        await pressed(pilot, "h")
        assert "global pipe" not in shown(app)
    assert len(asked) == 1


async def test_without_an_answer_it_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Found:
        raise NoAnswerError("the model isn't there any more")

    monkeypatch.setattr(holders_box, "ask_why", fails)
    app = app_showing(a_view(a_gpu(a_held_row())))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "h")
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert "The model isn't there any more." in shown(app)


async def test_a_process_that_doesnt_answer_isnt_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holders_box, "ask_why", lambda *_: pytest.fail("asked"))
    app = app_showing(a_view(a_gpu(a_held_row(answers=False))))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "h")
        await pilot.pause()
        assert "GPUMODELS_ASK=0" in shown(app)


async def test_without_a_model_there_is_nothing_to_ask() -> None:
    app = app_showing(a_view(a_gpu()))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "h")
        assert "Who holds" not in shown(app)
