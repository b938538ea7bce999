"""The devices' lines: bars that are bars in any width, readings as far as they are known."""

from __future__ import annotations

import pytest

from gpumodels_shared.records import replace
from gpumodels_tui.app import GpuModelsApp
from gpumodels_tui.widgets.device_panel import bar_cell, close_used_cell, short_title, used_cell
from screen_text import lines_shown
from snapshots import GIB
from views import NOON_SECONDS, a_gpu, a_host, a_row, a_view

H100 = "GPU 0  NVIDIA H100 80GB HBM3"


@pytest.mark.parametrize(
    ("columns", "title", "used"),
    [
        (60, "GPU 0 H100…", "38.0/80.0 GB"),
        (80, "GPU 0 H100 80GB HBM3", "38.0 GB / 80.0 GB"),
        (120, H100, "38.0 GB / 80.0 GB"),
    ],
)
async def test_the_title_gives_way_to_the_bar(columns: int, title: str, used: str) -> None:
    gpu = a_gpu(a_row(on_bytes=20 * GIB), title=H100)
    app = GpuModelsApp(a_view(gpu, a_host(number=2)), clock=lambda: NOON_SECONDS)
    async with app.run_test(size=(columns, 24)) as pilot:
        await pilot.pause()
        line = lines_shown(app)[0]
        assert line.startswith(f">  1 {title} ")
        assert f" {used}  87%  64°C  412 W" in line
        assert len([mark for mark in line if mark in "█/─"]) >= 7
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert "GPU 0 H100 80GB HBM3 █" in lines_shown(app)[0]


def test_only_makers_names_are_left_out_and_only_of_gpus() -> None:
    gpu, host = a_gpu(title=H100), a_host()
    assert short_title(gpu) == "GPU 0 H100 80GB HBM3"
    assert short_title(replace(gpu, title="GPU 3  NVIDIA GeForce RTX 4090")) == "GPU 3 RTX 4090"
    assert short_title(replace(gpu, title="cuda:0  NVIDIA thing of someone")) == "cuda:0 NVIDIA thing of someone"
    assert short_title(host) == "Host memory"


def test_what_is_not_known_is_a_question_mark_or_nothing() -> None:
    def words(used: int | None, total: int | None) -> str:
        return "".join(content for content, _ in used_cell(a_gpu(used_bytes=used, total_bytes=total), 17))

    assert words(None, 80 * GIB) == "? / 80.0 GB"
    assert words(GIB, None) == "1.0 GB"
    assert words(None, None) == ""


def test_a_gpu_that_is_lost_says_so_and_has_no_bar() -> None:
    gpu = replace(a_gpu(a_row(), used_bytes=None), is_lost=True, state="lost")
    for cell in (used_cell(gpu, 17), close_used_cell(gpu, 14)):
        assert "".join(content for content, _ in cell) == "lost"
    assert bar_cell(gpu, 20) == ()


def test_a_gpu_that_is_divided_has_its_bytes_in_the_bars_of_its_slices() -> None:
    assert bar_cell(replace(a_gpu(), is_divided=True, parts=()), 20) == ()
