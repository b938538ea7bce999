"""The box that says what else a process has in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apps import SMALL, app_showing, pressed
from gpumodels_shared.records import replace
from gpumodels_tui.screens import other_box
from gpumodels_tui.sources.asking import AllocatorCache, FoundOther, OtherOnDevice
from screen_text import shown
from snapshots import GIB, a_process, a_process_state, a_snapshot
from views import a_gpu, a_row, a_view


async def test_o_asks_the_process_once_and_shows_what_else_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def answers(file: Path, searching: Callable[[float], None]) -> FoundOther:
        asked.append(file)
        searching(0.025)
        device = OtherOnDevice("cuda:0", models_bytes=GIB, allocator=AllocatorCache(returnable_bytes=GIB))
        return FoundOther(devices=(device,), tensors=3)

    monkeypatch.setattr(other_box, "ask_other", answers)
    process = dataclasses.replace(a_process(), answers=True)
    row = replace(a_row("unet", GIB), process_state=a_process_state(a_snapshot(process=process)))
    view = a_view(a_gpu(row))
    view = replace(view, process_rows=tuple(replace(one, state=row.process_state) for one in view.process_rows))
    app = app_showing(view)
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "o")  # on the first screen it is no key
        assert asked == []
        await pressed(pilot, "p")
        await pressed(pilot, "o")
        await app.workers.wait_for_complete()
        await pilot.pause()
        text = " ".join(shown(app).replace("│", " ").split())
        assert "What else" in text
        assert "cuda:0: 1.0 GB models torch.cuda.empty_cache() would give back 1.0 GB" in text
        await pressed(pilot, "o")
        assert "empty_cache" not in shown(app)
    assert len(asked) == 1
