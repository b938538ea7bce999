"""The list of models: its cursor, and what a line says of its model."""

from __future__ import annotations

import re

import pytest
from rich.cells import cell_len

from apps import LARGE, SMALL, app_showing, pressed, selected
from gpumodels_tui.widgets.model_table import ModelTable
from screen_text import lines_shown, shown
from snapshots import GIB
from views import a_gpu, a_row, a_view, many_models, models


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


async def test_wide_names_leave_the_columns_where_they_are() -> None:
    app = app_showing(a_view(a_gpu(a_row("模型名字很长很长很长很长很长很长🚀", 3 * GIB), a_row("plain", 3 * GIB))))
    async with app.run_test(size=SMALL) as pilot:
        await pilot.pause()
        rows = [line for line in lines_shown(app) if "3.0 GB" in line and "145" in line]
        assert len(rows) == 2
        assert len({cell_len(row[: row.index("3.0 GB")]) for row in rows}) == 1


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
