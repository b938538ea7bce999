"""The list of models: its cursor, and what a line says of its model."""

from __future__ import annotations

import dataclasses
import re

import pytest
from rich.cells import cell_len

from apps import LARGE, SMALL, app_showing, pressed, selected
from gpumodels_shared.records import replace
from gpumodels_tui.view.listing import Entry
from gpumodels_tui.view.process_rows import OUTSIDE_CONTAINER
from gpumodels_tui.view.rows import DeviceRow, ModelRow
from gpumodels_tui.widgets.model_table import ModelTable, dtype_cell, kind_cell, layers_cell, loaded_cell, name_cell, on_cell
from screen_text import lines_shown, shown, words
from snapshots import GIB, NOON_NS
from views import a_gpu, a_llama_server, a_row, a_view, an_unattached, many_models, models


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


def entry_of(row: ModelRow, device: DeviceRow | None = None, depth: int = 0) -> Entry:
    gpu = device or a_gpu(row)
    return Entry((gpu.key, row.key), gpu, row, depth=depth)


def entry_of_unattached(used_bytes: int | None) -> Entry:
    process = an_unattached(used_bytes=used_bytes)
    return Entry(("gpu:0", process.key), a_gpu(unattached=[process]), None, process)


def test_a_note_stands_behind_the_name_where_both_fit_and_a_short_one_cuts_the_name() -> None:
    noted = entry_of(a_row("a-name-of-23-characters", note="dead"))
    assert words(name_cell(noted, 30)) == "a-name-of-23-characters (dead)"
    assert words(name_cell(noted, 20)) == "a-name-of-23… (dead)"
    long_note = entry_of(a_row("a-name-of-23-characters", note="offloaded from GPU 0"))
    assert words(name_cell(long_note, 40)) == "a-name-of-23-characters"


def test_an_adapter_is_indented_under_its_base() -> None:
    assert words(name_cell(entry_of(a_row("MyLoRA"), depth=1), 30)) == "└ MyLoRA"
    assert words(name_cell(entry_of(a_row("MyLoRA"), depth=2), 30)) == "  └ MyLoRA"


def test_of_a_process_without_a_sidecar_it_says_what_is_known_and_that_it_is_not_attached() -> None:
    entry = entry_of_unattached(3 * GIB)
    assert words(name_cell(entry, 30)) == "python serve.py"
    assert words(kind_cell(entry, 12)) == "not attached"
    assert words(kind_cell(entry, 10)) == "unattached"
    assert words(on_cell(entry, 9)) == "3.0 GB"
    assert words(on_cell(entry_of_unattached(None), 9)) == "?"
    assert words(layers_cell(entry, 6)) == words(dtype_cell(entry, 9)) == ""


def test_a_bar_of_what_is_on_and_off_shows_both_where_there_are_both() -> None:
    assert words(loaded_cell(entry_of(a_row(on_bytes=3 * GIB, off_bytes=GIB)), 8)) == "██████░░"
    assert words(loaded_cell(entry_of(a_row(on_bytes=1, off_bytes=80 * GIB)), 8)) == "█░░░░░░░"
    assert words(loaded_cell(entry_of(a_row(on_bytes=80 * GIB, off_bytes=1)), 8)) == "███████░"
    assert words(loaded_cell(entry_of(a_row(on_bytes=0, off_bytes=GIB)), 8)) == "░" * 8
    assert words(loaded_cell(entry_of(a_row(on_bytes=GIB)), 8)) == ""


def test_many_layers_are_counted_in_thousands_where_the_column_is_narrow() -> None:
    assert words(layers_cell(entry_of(a_row(layers=12_345)), 5)) == "12345"
    assert words(layers_cell(entry_of(a_row(layers=12_345)), 3)) == "12k"


def test_a_row_whose_device_has_other_readings_is_known_to_look_the_same() -> None:
    row, other = a_row("m"), a_row("other", 9 * GIB)
    gpu = a_gpu(row)
    table = ModelTable()
    assert table.draws_same(entry_of(row, gpu), entry_of(row, replace(gpu, utilization_percent=3)))
    assert not table.draws_same(entry_of(row, gpu), entry_of(row, a_gpu(other, row)))  # it has another mark in the bar
    assert not table.draws_same(entry_of(row, gpu), entry_of(row, gpu, depth=1))
    assert not table.draws_same(entry_of(row, gpu), entry_of(row, replace(gpu, total_bytes=GIB)))


def test_rows_of_one_process_do_not_say_of_which_and_several_devices_say_on_which() -> None:
    assert ModelTable().sortable[-1] == "process"
    assert ModelTable(of_one_process=True).sortable[-1] == "age"
    table = ModelTable()
    assert "device" not in table.sortable
    table.show_devices(True)
    assert "device" in table.sortable


def test_a_nameless_process_is_called_so_in_any_width() -> None:
    nameless = replace(an_unattached(), pid=None, command=OUTSIDE_CONTAINER)
    gpu = a_gpu(unattached=[nameless])
    entry = Entry((gpu.key, nameless.key), gpu, None, nameless)
    assert words(name_cell(entry, 40)) == OUTSIDE_CONTAINER
    assert words(name_cell(entry, 20)) == "outside container"


@pytest.mark.parametrize("note", ["stalled", "dead", "5s old", ">14s old", "3m old"])
def test_a_processs_state_stands_beside_a_name_that_fills_its_column(note: str) -> None:
    shown_name = words(name_cell(entry_of(a_row("Wan2_2-T2V-A14B-HIGH", note=note)), 20))
    assert shown_name.endswith(f"… ({note})")
    assert shown_name.startswith("Wan2_2")
    assert len(shown_name) <= 20


def test_a_model_that_is_known_from_outside_says_how_where_there_is_room_for_it() -> None:
    process = a_llama_server()
    entry = Entry(("gpu:0", process.key), a_gpu(unattached=[process]), None, process)
    assert words(name_cell(entry, 30)) == "Qwen3-8B-Q4_K_M.gguf (mapped)"
    assert words(name_cell(entry, 22)) == "Qwen3-8B-Q4_K_M.gguf"
    assert (entry.process, entry.kind) == ("llama-server 2222", "not attached")
    named = replace(process, models=process.models[1:])
    entry = Entry(("gpu:0", process.key), a_gpu(unattached=[named]), None, named)
    assert words(name_cell(entry, 30)) == "ada/style (in its arguments)"
    assert words(name_cell(entry, 20)) == "ada/style?"
    assert words(name_cell(entry, 6)) == "ada/…?"


def used(name: str, seconds_ago: float | None) -> ModelRow:
    """A model on GPU 0 that last ran so many seconds before noon; None: nobody knows."""
    row = a_row(name, GIB)
    last_ns = None if seconds_ago is None else NOON_NS - int(seconds_ago * 1e9)
    return replace(row, model=dataclasses.replace(row.model, last_used_ns=last_ns, last_used_by="calls"))


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_how_long_a_model_has_been_idle_stands_on_its_row_where_that_is_known(size: tuple[int, int]) -> None:
    app = app_showing(a_view(a_gpu(used("unet", 24 * 60), used("vae", 3), used("clip", None), used("lora", 7200))))
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        assert "idle" in shown(app)
        for name, words in (("unet", "24m"), ("lora", "2h")):
            assert any(f" {name} " in line and f" {words}" in line for line in lines_shown(app))
        table = app.screen.query_one(ModelTable)
        idle = {entry.name: words_of(table._idle_cell(entry, 4)) for entry in table.rows}
        assert idle == {"unet": "24m", "vae": "", "clip": "", "lora": "2h"}
        await pressed(pilot, "s", "s")
        assert [entry.name for entry in table.rows] == ["lora", "unet", "vae", "clip"]


async def test_without_any_figure_there_is_no_column_for_it() -> None:
    app = app_showing(a_view(a_gpu(used("clip", None))))
    async with app.run_test(size=LARGE) as pilot:
        await pilot.pause()
        assert "idle" not in app.screen.query_one(ModelTable).sortable


def words_of(cell: tuple[tuple[str, str], ...]) -> str:
    return "".join(content for content, _ in cell)
