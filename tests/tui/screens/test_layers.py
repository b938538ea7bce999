"""The layers of a model: unfolding, facts, and what happens when the model changes or goes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec import structs
from textual.pilot import Pilot

from gpumodels_shared.schema import LayerTree
from gpumodels_tui.app import GpuModelsApp
from gpumodels_tui.screens.layers import LayersScreen, torch_device
from gpumodels_tui.screens.overview import OverviewScreen
from gpumodels_tui.screens.text_screen import TextScreen
from gpumodels_tui.view.rows import ModelRow, View
from gpumodels_tui.widgets.layer_table import LayerTable
from screen_text import assert_looks_like, lines_shown, shown
from snapshots import GIB, MIB, WAN, a_model, a_tree
from views import NOON_SECONDS, a_full_view, a_gpu, a_host, a_row, a_view
from work import counted

SMALL = (80, 24)
LARGE = (120, 40)
LAYERS = {"blocks.0.attn": 6 * MIB, "blocks.0.ffn": 9 * MIB, "blocks.1.attn": 6 * MIB, "blocks.1.ffn": 9 * MIB, "head": 50 * MIB}


def app_showing(view: View) -> GpuModelsApp:
    return GpuModelsApp(view, clock=lambda: NOON_SECONDS)


def small_model(layers: dict[str, int] | None = None, **more: object) -> ModelRow:
    return structs.replace(a_row("small", 80 * MIB, tree=a_tree(layers or LAYERS, device="cuda:0")), **more)


def table(app: GpuModelsApp) -> LayerTable:
    return app.screen.query_one(LayerTable)


def selected(app: GpuModelsApp) -> str:
    """The layer under the cursor, as a dotted path; the root is empty."""
    layer = table(app).cursor_row
    assert layer is not None
    return ".".join(table(app).sums.path(layer))


def in_sight(app: GpuModelsApp) -> list[str]:
    return [".".join(table(app).sums.path(layer)) for layer in table(app).rows]


async def pressed(pilot: Pilot[int], *keys: str) -> None:
    await pilot.press(*keys)
    await pilot.pause()


@pytest.mark.parametrize(("size", "name"), [(SMALL, "layers-80x24"), (LARGE, "layers-120x40")])
async def test_facts_and_layers_use_the_room_there_is(size: tuple[int, int], name: str) -> None:
    app = app_showing(a_full_view())
    async with app.run_test(size=size) as pilot:
        await pressed(pilot, "enter", "down", "right")
        assert selected(app) == "blocks"
        assert_looks_like(app, name)


@pytest.mark.slow
async def test_enter_unfolds_and_folds_and_escape_goes_back_to_the_model() -> None:
    app = app_showing(a_view(a_gpu(small_model(), a_row("other"))))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "enter")
        assert in_sight(app) == ["", "head", "blocks"]
        await pressed(pilot, "end", "enter")
        assert in_sight(app) == ["", "head", "blocks", "blocks.0", "blocks.1"]
        await pressed(pilot, "enter")
        assert in_sight(app) == ["", "head", "blocks"]
        await pressed(pilot, "escape")
        assert isinstance(app.screen, OverviewScreen)
        assert app.screen.model is not None
        assert app.screen.model.name == "small"


@pytest.mark.slow
async def test_right_unfolds_then_enters_and_left_folds_then_leaves() -> None:
    app = app_showing(a_view(a_gpu(small_model())))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "enter", "G", "right")
        assert (selected(app), len(in_sight(app))) == ("blocks", 5)
        await pressed(pilot, "l")
        assert selected(app) == "blocks.0"
        await pressed(pilot, "right", "right")
        assert selected(app) == "blocks.0.ffn"
        await pressed(pilot, "right")
        assert selected(app) == "blocks.0.ffn"
        await pressed(pilot, "left")
        assert selected(app) == "blocks.0"
        await pressed(pilot, "h")
        assert (selected(app), len(in_sight(app))) == ("blocks.0", 5)
        await pressed(pilot, "left", "left", "left", "left")
        assert (selected(app), in_sight(app)) == ("", [""])


@pytest.mark.slow
async def test_keys_move_the_cursor_over_layers() -> None:
    app = app_showing(a_view(a_gpu(small_model({f"blocks.{number}": MIB for number in range(60)}))))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "enter")
        for key, expected in {"j": "blocks", "down": "blocks.0", "k": "blocks", "up": "", "end": "blocks.59", "home": ""}.items():
            await pressed(pilot, key)
            assert selected(app) == expected
        await pressed(pilot, "G", "g", "pagedown")
        assert selected(app) == f"blocks.{table(app).visible_rows - 3}"
        await pressed(pilot, "pageup")
        assert selected(app) == ""


@pytest.mark.slow
async def test_cursor_and_unfolded_layers_survive_a_change_of_the_model() -> None:
    app = app_showing(a_view(a_gpu(small_model())))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "enter", "G", "right", "right", "right", "down")
        assert selected(app) == "blocks.0.ffn"
        app.receive(a_view(a_gpu(small_model({"adapter.down": 90 * MIB, "adapter.up": 90 * MIB, **LAYERS}))))
        await pilot.pause()
        assert selected(app) == "blocks.0.ffn"
        assert in_sight(app)[:3] == ["", "adapter", "head"]
        app.receive(a_view(a_gpu(small_model({"blocks.0.attn": MIB, "head": MIB}))))
        await pilot.pause()
        assert selected(app) == "blocks.0"


@pytest.mark.slow
async def test_an_unloaded_model_is_said_to_be_so_and_its_last_tree_stays() -> None:
    app = app_showing(a_view(a_gpu(small_model())))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "enter")
        assert "Unloaded" not in shown(app)
        app.receive(a_view(a_gpu()))
        await pilot.pause()
        assert "Unloaded" in shown(app)
        assert in_sight(app) == ["", "head", "blocks"]
        app.receive(a_view(a_gpu(small_model())))
        await pilot.pause()
        assert "Unloaded" not in shown(app)
        app.receive(a_view(a_gpu()))
        await pilot.pause()
        await pressed(pilot, "escape")
        assert "No models on" in shown(app)


async def test_a_model_that_moved_to_another_device_is_followed() -> None:
    app = app_showing(a_view(a_gpu(small_model()), a_host(number=2)))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "enter")
        moved = a_row("small", 80 * MIB, device="cpu", tree=a_tree(LAYERS, device="cpu"))
        app.receive(a_view(a_gpu(), a_host(moved, number=2)))
        await pilot.pause()
        assert "Unloaded" not in shown(app)
        assert "80 MB in host memory" in shown(app)
        assert table(app).sums.on_bytes[0] == 80 * MIB


@pytest.mark.slow
async def test_i_shows_all_facts_and_the_files_metadata() -> None:
    row = structs.replace(
        a_row("m", files=["/models/m.safetensors"]), facts={"title": "A title"}, metadata={"ss_network_dim": "16"}
    )
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
    unsure = structs.replace(row, model=replace(row.model, confidence=0.3, name_source="class"))
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


async def test_shared_bytes_are_shown_and_not_summed() -> None:
    tree = a_tree({"embed": 8 * MIB, "lm_head": 0}, device="cuda:0")
    head = tree.names.index("lm_head")
    app = app_showing(a_view(a_gpu(a_row("tied", 8 * MIB, tree=replace(tree, shared=((head, 0, 0, 8 * MIB),))))))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "enter")
        line = next(line for line in lines_shown(app) if "lm_head" in line)
        assert "+8.0 MB shared" in line
        assert table(app).sums.on_bytes[0] == 8 * MIB


async def test_each_layer_says_on_which_devices_it_is() -> None:
    tree = a_tree({"blocks.0": GIB, "blocks.1": GIB, "blocks.2": GIB, "head": MIB})
    placed = {tree.names.index("0"): 0, tree.names.index("1"): 1, tree.names.index("2"): 2, tree.names.index("head"): 3}
    memory = tuple((layer, placed[layer], dtype, size) for layer, _, dtype, size in tree.memory)
    row = a_row("spread", GIB, tree=replace(tree, devices=("cuda:0", "cuda:1", "cpu", "meta"), memory=memory))
    app = app_showing(a_view(a_gpu(structs.replace(row, places={"cuda:0": "3", "cuda:1": "5", "cpu": "host"}))))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "enter", "down", "right")
        marks = {line.split()[0]: line.split()[-1] for line in lines_shown(app) if "  Block" in line}
        assert {layer: marks[layer] for layer in ("0", "1", "2", "head")} == {"0": "3", "1": "5", "2": "host", "head": "none"}
        assert marks[">"].startswith("3+5+")  # the cursor's line: the blocks together


def test_the_devices_name_inside_the_process_is_found_for_a_model_on_several_gpus() -> None:
    sharded = a_model("big", device="cuda:0", bytes_by_device={"cuda:0": 5 * GIB, "cuda:1": 3 * GIB, "cpu": GIB})
    row = structs.replace(a_row("big", 3 * GIB), model=sharded)
    assert torch_device(a_gpu(row, index=1), row) == "cuda:1"
    assert torch_device(a_gpu(row), structs.replace(row, on_bytes=5 * GIB)) == "cuda:0"
    assert torch_device(a_host(row), structs.replace(row, on_bytes=GIB)) == "cpu"


async def work_of_scrolling(count: int) -> int:
    """The steps of three keys that go from one end of a list of so many modules to the other."""
    tree = LayerTree(
        names=("", *map(str, range(count - 1))),
        depths=(0, *((1,) * (count - 1))),
        class_names=("Model", "Linear"),
        classes=(0, *((1,) * (count - 1))),
        parameters=(1000,) * count,
        devices=("cuda:0",),
        dtypes=("bfloat16",),
        memory=tuple((layer, 0, 0, 2000) for layer in range(count)),
    )
    app = app_showing(a_view(a_gpu(a_row(WAN, count * 2000, tree=tree))))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "enter")
        assert len(table(app).rows) == count
        with counted() as work:
            await pressed(pilot, "end")
            assert selected(app) == str(count - 2)
            await pressed(pilot, "pageup", "home")
        before = table(app).lines_refreshed
        await pressed(pilot, "down")
        assert table(app).lines_refreshed - before == 2
    return work.steps


@pytest.mark.slow
async def test_forty_thousand_modules_scroll_with_the_work_of_four_hundred() -> None:
    assert await work_of_scrolling(40_000) < 2 * await work_of_scrolling(400)


@pytest.mark.slow
async def test_a_click_on_the_mark_unfolds_and_one_on_the_name_selects() -> None:
    app = app_showing(a_view(a_gpu(small_model())))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "enter")
        await pilot.click(LayerTable, offset=(4, 3))  # `blocks`, its mark: two columns in from the root's
        await pilot.pause()
        assert (selected(app), in_sight(app)) == ("blocks", ["", "head", "blocks", "blocks.0", "blocks.1"])
        await pilot.click(LayerTable, offset=(4, 3))
        await pilot.pause()
        assert in_sight(app) == ["", "head", "blocks"]
        await pilot.click(LayerTable, offset=(8, 2))
        await pilot.pause()
        assert (selected(app), in_sight(app)) == ("head", ["", "head", "blocks"])


@pytest.mark.slow
async def test_a_click_on_a_title_sorts_the_layers() -> None:
    app = app_showing(a_view(a_gpu(small_model())))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "enter")
        assert "on dev↓" in shown(app)
        await pilot.click(LayerTable, offset=(4, 0))
        await pilot.pause()
        assert "layer↑" in shown(app)
        assert in_sight(app) == ["", "blocks", "head"]
        await pilot.click(LayerTable, offset=(4, 0))
        await pilot.pause()
        assert "layer↓" in shown(app)
        assert in_sight(app) == ["", "head", "blocks"]


@pytest.mark.parametrize("lines", [10, 14, 20, 24])
async def test_facts_above_the_tree_leave_it_room(lines: int) -> None:
    app = app_showing(a_view(a_gpu(small_model())))
    async with app.run_test(size=(60, lines)) as pilot:
        await pressed(pilot, "enter")
        text = shown(app)
        assert "named by" in text
        assert "▸ blocks" in text
        assert lines_shown(app)[-1].endswith("q Quit")


@pytest.mark.slow
async def test_a_model_of_many_facts_has_them_all_below_tab() -> None:
    row = structs.replace(small_model(), facts={f"fact {number}": f"value {number}" for number in range(40)})
    app = app_showing(a_view(a_gpu(row)))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "enter")
        assert "value 39" not in shown(app)
        await pressed(pilot, "tab", "end")
        assert "value 39" in shown(app)
        await pressed(pilot, "tab")
        assert "named by" in shown(app)
