"""The layers of a model: unfolding, facts, and what happens when the model changes or goes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from apps import LARGE, SMALL, app_showing, has_keys, layer_table, layer_under_cursor, layers_in_sight, on_screen, pressed
from gpumodels_tui.screens.layers import LayersScreen, torch_device
from gpumodels_tui.screens.overview import OverviewScreen
from gpumodels_tui.screens.text_screen import TextScreen
from gpumodels_tui.widgets.facts_panel import FactsPanel
from gpumodels_tui.widgets.layer_table import LayerTable
from screen_text import assert_looks_like, lines_shown, shown
from snapshots import GIB, MIB, a_model, a_tree
from views import SMALL_LAYERS, a_full_view, a_gpu, a_host, a_row, a_small_model, a_view


@pytest.mark.parametrize(("size", "name"), [(SMALL, "layers-80x24"), (LARGE, "layers-120x40")])
async def test_facts_and_layers_use_the_room_there_is(size: tuple[int, int], name: str) -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=size) as pilot:
        await pressed(pilot, "enter", "down", "right")
        assert layer_under_cursor(app) == "blocks"
        assert_looks_like(app, name)


@pytest.mark.slow
async def test_enter_unfolds_and_folds_and_escape_goes_back_to_the_model() -> None:
    app = app_showing(a_view(a_gpu(a_small_model(), a_row("other"))))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "enter")
        assert layers_in_sight(app) == ["", "head", "blocks"]
        await pressed(pilot, "end", "enter")
        assert layers_in_sight(app) == ["", "head", "blocks", "blocks.0", "blocks.1"]
        await pressed(pilot, "enter")
        assert layers_in_sight(app) == ["", "head", "blocks"]
        await pressed(pilot, "escape")
        assert isinstance(app.screen, OverviewScreen)
        assert app.screen.model is not None
        assert app.screen.model.name == "small"


@pytest.mark.slow
async def test_cursor_and_unfolded_layers_survive_a_change_of_the_model() -> None:
    app = app_showing(a_view(a_gpu(a_small_model())))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "enter", "G", "right", "right", "right", "down")
        assert layer_under_cursor(app) == "blocks.0.ffn"
        app.receive(a_view(a_gpu(a_small_model({"adapter.down": 90 * MIB, "adapter.up": 90 * MIB, **SMALL_LAYERS}))))
        await pilot.pause()
        assert layer_under_cursor(app) == "blocks.0.ffn"
        assert layers_in_sight(app)[:3] == ["", "adapter", "head"]
        app.receive(a_view(a_gpu(a_small_model({"blocks.0.attn": MIB, "head": MIB}))))
        await pilot.pause()
        assert layer_under_cursor(app) == "blocks.0"


@pytest.mark.slow
async def test_an_unloaded_model_is_said_to_be_so_and_its_last_tree_stays() -> None:
    app = app_showing(a_view(a_gpu(a_small_model())))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "enter")
        assert "Unloaded" not in shown(app)
        app.receive(a_view(a_gpu()))
        await pilot.pause()
        assert "Unloaded" in shown(app)
        assert layers_in_sight(app) == ["", "head", "blocks"]
        app.receive(a_view(a_gpu(a_small_model())))
        await pilot.pause()
        assert "Unloaded" not in shown(app)
        app.receive(a_view(a_gpu()))
        await pilot.pause()
        await pressed(pilot, "escape")
        assert "No models on" in shown(app)


async def test_a_model_that_moved_to_another_device_is_followed() -> None:
    app = app_showing(a_view(a_gpu(a_small_model()), a_host(number=2)))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "enter")
        moved = a_row("small", 80 * MIB, device="cpu", tree=a_tree(SMALL_LAYERS, device="cpu"))
        app.receive(a_view(a_gpu(), a_host(moved, number=2)))
        await pilot.pause()
        assert "Unloaded" not in shown(app)
        assert "80 MB in host memory" in shown(app)
        assert layer_table(app).sums.on_bytes[0] == 80 * MIB


@pytest.mark.slow
async def test_i_shows_all_facts_and_the_files_metadata() -> None:
    row = replace(a_row("m", files=["/models/m.safetensors"]), facts={"title": "A title"}, metadata={"ss_network_dim": "16"})
    app = app_showing(a_view(a_gpu(row)))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "enter", "i")
        assert isinstance(app.screen, TextScreen)
        text = shown(app)
        for said in ("/models/m.safetensors", "A title", "ss_network_dim", "sure"):
            assert said in text
        await pressed(pilot, "i")
        assert isinstance(app.screen, LayersScreen)


async def test_candidates_of_an_uncertain_name_are_listed() -> None:
    row = a_row("WanModel", candidates=["/models/high.safetensors", "/models/low.safetensors"])
    unsure = replace(row, model=replace(row.model, confidence=0.3, name_source="class"))
    app = app_showing(a_view(a_gpu(unsure)))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "enter")
        text = shown(app)
        assert "could be" in text
        assert "/models/low.safetensors" in text
        assert "uncertain" in text


async def test_a_model_without_a_tree_says_so() -> None:
    app = app_showing(a_view(a_gpu(a_row("bare"))))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "enter", "enter", "right", "left", "down")
        assert "No layers are known" in shown(app)


def test_the_devices_name_inside_the_process_is_found_for_a_model_on_several_gpus() -> None:
    sharded = a_model("big", device="cuda:0", bytes_by_device={"cuda:0": 5 * GIB, "cuda:1": 3 * GIB, "cpu": GIB})
    row = replace(a_row("big", 3 * GIB), model=sharded)
    assert torch_device(a_gpu(row, index=1), row) == "cuda:1"
    assert torch_device(a_gpu(row), replace(row, on_bytes=5 * GIB)) == "cuda:0"
    assert torch_device(a_host(row), replace(row, on_bytes=GIB)) == "cpu"


def test_of_two_devices_that_are_called_the_same_the_process_knows_which_is_which() -> None:
    half = a_model("big", device="cuda:0", bytes_by_device={"cuda:0": 4 * GIB, "cuda:1": 4 * GIB})
    labels, keys = {"cuda:0": "cuda:0", "cuda:1": "cuda:0"}, {"cuda:0": "gpu:own", "cuda:1": "gpu:shared"}
    row = replace(a_row("big", 4 * GIB), model=half, device_labels=labels, device_keys=keys)
    devices = [replace(a_gpu(row), key=key, label="cuda:0") for key in ("gpu:own", "gpu:shared")]
    assert [torch_device(device, row) for device in devices] == ["cuda:0", "cuda:1"]


@pytest.mark.slow
async def test_a_click_on_a_title_sorts_the_layers() -> None:
    app = app_showing(a_view(a_gpu(a_small_model())))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "enter")
        assert "on dev↓" in shown(app)
        await pilot.click(LayerTable, offset=(4, 0))
        await pilot.pause()
        assert "layer↑" in shown(app)
        assert layers_in_sight(app) == ["", "blocks", "head"]
        await pilot.click(LayerTable, offset=(4, 0))
        await pilot.pause()
        assert "layer↓" in shown(app)
        assert layers_in_sight(app) == ["", "head", "blocks"]


@pytest.mark.parametrize("lines", [10, 14, 20, 24])
async def test_facts_above_the_tree_leave_it_room(lines: int) -> None:
    app = app_showing(a_view(a_gpu(a_small_model())))
    async with app.run_test(size=(60, lines)) as pilot:
        await pressed(pilot, "enter")
        text = shown(app)
        assert "named by" in text
        assert "▸ blocks" in text
        assert lines_shown(app)[-1].endswith("q Quit")


@pytest.mark.slow
async def test_a_model_of_many_facts_has_them_all_below_tab() -> None:
    row = replace(a_small_model(), facts={f"fact {number}": f"value {number}" for number in range(40)})
    app = app_showing(a_view(a_gpu(row)))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "enter")
        assert "value 39" not in shown(app)
        await pressed(pilot, "tab", "end")
        assert "value 39" in shown(app)
        await pressed(pilot, "tab")
        assert "named by" in shown(app)


@pytest.mark.slow
async def test_layers_are_filtered_with_what_they_are_in_and_sorted() -> None:
    tree = a_tree({"blocks.0.attn": 6, "blocks.0.ffn": 9, "blocks.1.ffn": 12, "head": 50}, device="cuda:0")
    app = app_showing(a_view(a_gpu(a_row("m", GIB, tree=tree))))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "enter", "slash", *"ffn", "enter")
        table = app.screen.query_one(LayerTable)

        def paths() -> list[str]:
            return [".".join(table.sums.path(layer)) for layer in table.rows]

        assert paths() == ["", "blocks", "blocks.0", "blocks.0.ffn", "blocks.1", "blocks.1.ffn"]
        await pressed(pilot, "n")
        assert table.cursor_row == table.rows[3]
        await pressed(pilot, "n")
        assert table.cursor_row == table.rows[5]
        await pressed(pilot, "N", "escape")
        assert on_screen(app, LayersScreen)
        assert paths() == ["", "head", "blocks"]
        await pressed(pilot, "s")
        assert paths() == ["", "blocks", "head"]
        await pressed(pilot, "r")
        assert paths() == ["", "head", "blocks"]
        await pressed(pilot, "f6")
        assert "their order in the model" in shown(app)
        await pressed(pilot, "tab")
        assert has_keys(app, FactsPanel)
        await pressed(pilot, "down", "j", "up", "k", "end", "G", "home", "g", "shift+tab")
        assert has_keys(app, LayerTable)


async def test_a_tree_that_cannot_be_read_is_said_to_be_so() -> None:
    tree = a_tree(SMALL_LAYERS, device="cuda:0")
    app = app_showing(a_view(a_gpu(a_row("damaged", tree=replace(tree, depths=(0,) * len(tree.depths))))))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "enter")
        words = " ".join(shown(app).split())
        assert "The layers of this model can't be read: a layer tree's depths don't form a tree." in words
