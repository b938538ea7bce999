"""The tree of layers: folding, the cursor, and what a line says of its layer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from apps import SMALL, app_showing, layer_table, layer_under_cursor, layers_in_sight, pressed
from gpumodels_shared.schema import LayerTree
from gpumodels_tui.view.layer_sums import sum_layers
from gpumodels_tui.widgets.layer_table import LayerTable
from screen_text import lines_shown, words
from snapshots import GIB, MIB, WAN, a_tree
from views import a_gpu, a_row, a_small_model, a_view
from work import counted


@pytest.mark.slow
async def test_right_unfolds_then_enters_and_left_folds_then_leaves() -> None:
    app = app_showing(a_view(a_gpu(a_small_model())))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "enter", "G", "right")
        assert (layer_under_cursor(app), len(layers_in_sight(app))) == ("blocks", 5)
        await pressed(pilot, "l")
        assert layer_under_cursor(app) == "blocks.0"
        await pressed(pilot, "right", "right")
        assert layer_under_cursor(app) == "blocks.0.ffn"
        await pressed(pilot, "right")
        assert layer_under_cursor(app) == "blocks.0.ffn"
        await pressed(pilot, "left")
        assert layer_under_cursor(app) == "blocks.0"
        await pressed(pilot, "h")
        assert (layer_under_cursor(app), len(layers_in_sight(app))) == ("blocks.0", 5)
        await pressed(pilot, "left", "left", "left", "left")
        assert (layer_under_cursor(app), layers_in_sight(app)) == ("", [""])


@pytest.mark.slow
async def test_keys_move_the_cursor_over_layers() -> None:
    app = app_showing(a_view(a_gpu(a_small_model({f"blocks.{number}": MIB for number in range(60)}))))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "enter")
        for key, expected in {"j": "blocks", "down": "blocks.0", "k": "blocks", "up": "", "end": "blocks.59", "home": ""}.items():
            await pressed(pilot, key)
            assert layer_under_cursor(app) == expected
        await pressed(pilot, "G", "g", "pagedown")
        assert layer_under_cursor(app) == f"blocks.{layer_table(app).visible_rows - 3}"
        await pressed(pilot, "pageup")
        assert layer_under_cursor(app) == ""


async def test_shared_bytes_are_shown_and_not_summed() -> None:
    tree = a_tree({"embed": 8 * MIB, "lm_head": 0}, device="cuda:0")
    head = tree.names.index("lm_head")
    app = app_showing(a_view(a_gpu(a_row("tied", 8 * MIB, tree=replace(tree, shared=((head, 0, 0, 8 * MIB),))))))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "enter")
        line = next(line for line in lines_shown(app) if "lm_head" in line)
        assert "+8.0 MB shared" in line
        assert layer_table(app).sums.on_bytes[0] == 8 * MIB


async def test_each_layer_says_on_which_devices_it_is() -> None:
    tree = a_tree({"blocks.0": GIB, "blocks.1": GIB, "blocks.2": GIB, "head": MIB})
    placed = {tree.names.index("0"): 0, tree.names.index("1"): 1, tree.names.index("2"): 2, tree.names.index("head"): 3}
    memory = tuple((layer, placed[layer], dtype, size) for layer, _, dtype, size in tree.memory)
    row = a_row("spread", GIB, tree=replace(tree, devices=("cuda:0", "cuda:1", "cpu", "meta"), memory=memory))
    app = app_showing(a_view(a_gpu(replace(row, device_labels={"cuda:0": "3", "cuda:1": "5", "cpu": "host"}))))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "enter", "down", "right")
        marks = {line.split()[0]: line.split()[-1] for line in lines_shown(app) if "  Block" in line}
        assert {layer: marks[layer] for layer in ("0", "1", "2", "head")} == {"0": "3", "1": "5", "2": "host", "head": "none"}
        assert marks[">"].startswith("3+5+")  # the cursor's line: the blocks together


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
        assert len(layer_table(app).rows) == count
        with counted() as work:
            await pressed(pilot, "end")
            assert layer_under_cursor(app) == str(count - 2)
            await pressed(pilot, "pageup", "home")
        before = layer_table(app).lines_refreshed
        await pressed(pilot, "down")
        assert layer_table(app).lines_refreshed - before == 2
    return work.steps


@pytest.mark.slow
async def test_forty_thousand_modules_scroll_with_the_work_of_four_hundred() -> None:
    assert await work_of_scrolling(40_000) < 2 * await work_of_scrolling(400)


@pytest.mark.slow
async def test_a_click_on_the_mark_unfolds_and_one_on_the_name_selects() -> None:
    app = app_showing(a_view(a_gpu(a_small_model())))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "enter")
        await pilot.click(LayerTable, offset=(4, 3))  # `blocks`, its mark: two columns in from the root's
        await pilot.pause()
        assert (layer_under_cursor(app), layers_in_sight(app)) == ("blocks", ["", "head", "blocks", "blocks.0", "blocks.1"])
        await pilot.click(LayerTable, offset=(4, 3))
        await pilot.pause()
        assert layers_in_sight(app) == ["", "head", "blocks"]
        await pilot.click(LayerTable, offset=(8, 2))
        await pilot.pause()
        assert (layer_under_cursor(app), layers_in_sight(app)) == ("head", ["", "head", "blocks"])


def a_table(*layers: tuple[str, int]) -> LayerTable:
    table = LayerTable()
    table.show_layers(sum_layers(a_tree(dict(layers), device="cuda:0"), "cuda:0"))
    return table


def cell(table: LayerTable, title: str, layer: int, width: int) -> str:
    (column,) = [column for column in table.columns if column.title == title]
    return words(column.draw(layer, width))


def test_a_layer_says_its_share_of_what_it_is_in() -> None:
    table = a_table(("blocks.0", 3 * GIB), ("blocks.1", GIB), ("head", 4 * GIB))
    names = table.sums.tree.names
    assert cell(table, "share of parent", names.index("head"), 13) == " 50% ━━━━────"
    assert cell(table, "share of parent", names.index("0"), 13) == " 75% ━━━━━━──"
    assert cell(table, "on device", names.index("blocks"), 9) == "4.0 GB"


def test_deep_layers_are_indented_by_half_the_column_at_most() -> None:
    deep = ".".join("abcdefghijklmnopqrstuvwxyz")
    table = a_table((deep, GIB))
    assert cell(table, "layer", 3, 20) == " " * 6 + "▾ c  Block"
    assert cell(table, "layer", 26, 20) == " " * 10 + "  z  Block"


def test_the_orders_go_round_and_each_begins_as_one_expects() -> None:
    table = a_table(("b", 3 * GIB), ("a", GIB), ("c", 4 * GIB))

    def names() -> list[str]:
        return [table.sums.tree.names[layer] for layer in table.rows[1:]]

    seen = {"size": names()}
    for _ in range(3):
        order = table.sort_next()
        seen[order] = names()
    assert seen == {"size": ["c", "b", "a"], "name": ["a", "b", "c"], "their order in the model": ["a", "b", "c"]}
    assert table.sort_next(-1) == "their order in the model"
    table.reverse()
    assert names() == ["c", "b", "a"]


def test_a_filter_leaves_what_has_the_words_and_what_that_is_in() -> None:
    table = a_table(("blocks.0.ffn", GIB), ("blocks.0.attn", GIB), ("head", GIB))
    table.filter("ffn")
    assert [".".join(table.sums.path(layer)) for layer in table.rows] == ["", "blocks", "blocks.0", "blocks.0.ffn"]
    assert [table.is_match(layer) for layer in table.rows] == [False, False, False, True]
    table.filter("")
    assert len(table.rows) == 3
