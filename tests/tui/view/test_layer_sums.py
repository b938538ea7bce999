"""Sums over layer trees, and which layers are in sight."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gpumodels_shared.schema import LayerTree
from gpumodels_tui.view.layer_sums import MOST_DTYPES, Outline, sum_layers
from snapshots import a_tree
from work import counted


def names_in_sight(outline: Outline) -> list[str]:
    assert outline.sums is not None
    return [outline.sums.tree.names[layer] for layer in outline.layers_in_sight()]


def outline_of(tree: LayerTree, device: str = "cpu") -> Outline:
    outline = Outline()
    outline.replace(sum_layers(tree, device))
    return outline


def unfold(outline: Outline, *path: str) -> None:
    assert outline.sums is not None
    layer, exact = outline.sums.find(path)
    assert exact
    outline.unfold(layer)


def test_sums_hold_everything_below_on_and_off_the_device() -> None:
    tree = LayerTree(
        names=("", "blocks", "0", "1", "head"),
        depths=(0, 1, 2, 2, 1),
        class_names=("Model", "Block"),
        classes=(0, 1, 1, 1, 1),
        parameters=(1, 0, 10, 20, 5),
        devices=("cuda:0", "meta"),
        dtypes=("bfloat16", "float32"),
        memory=((0, 0, 1, 4), (2, 0, 0, 100), (3, 1, 0, 200), (4, 0, 1, 50)),
        shared=((4, 0, 0, 7),),
    )
    sums = sum_layers(tree, "cuda:0")
    assert list(sums.on_bytes) == [154, 100, 100, 0, 50]
    assert list(sums.off_bytes) == [200, 200, 0, 200, 0]
    assert list(sums.parameters) == [36, 30, 10, 20, 5]
    assert list(sums.shared_bytes) == [7, 0, 0, 0, 7]
    assert list(sums.dtypes) == ["bfloat16+", "bfloat16", "bfloat16", "bfloat16", "float32"]
    assert sums.share_of_parent(2) == 100 / 300
    assert sums.share_of_parent(0) == 1.0
    assert sums.class_name(3) == "Block"
    assert sums.path(3) == ("blocks", "1")
    assert [sums.devices(layer) for layer in range(5)] == [
        ["cuda:0", "meta"],
        ["cuda:0", "meta"],
        ["cuda:0"],
        ["meta"],
        ["cuda:0"],
    ]


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 1000)), max_size=60))
def test_every_layer_is_the_sum_of_itself_and_its_children(steps: list[tuple[int, int]]) -> None:
    depths = [0]
    for wanted, _ in steps:
        depths.append(min(wanted, depths[-1] + 1))
    own = [0, *(size for _, size in steps)]
    count = len(depths)
    memory = tuple((layer, 0, 0, size) for layer, size in enumerate(own))
    tree = LayerTree(("x",) * count, tuple(depths), ("C",), (0,) * count, (0,) * count, ("cpu",), ("int8",), memory)
    sums = sum_layers(tree, "cpu")
    for layer in range(count):
        assert sums.on_bytes[layer] == own[layer] + sum(sums.on_bytes[child] for child in sums.children(layer))
    assert sums.on_bytes[0] == sum(own)


def test_the_largest_child_is_first_and_equal_blocks_keep_their_numbers() -> None:
    outline = outline_of(a_tree({**{f"blocks.{number}": 10 for number in range(12)}, "head": 500}))
    assert names_in_sight(outline) == ["", "head", "blocks"]
    unfold(outline, "blocks")
    assert names_in_sight(outline) == ["", "head", "blocks", *map(str, range(12))]


def test_a_chain_of_only_children_unfolds_at_once() -> None:
    outline = outline_of(a_tree({"model.diffusion.blocks": 10, "model.diffusion.head": 5}))
    assert names_in_sight(outline) == ["", "model", "diffusion", "blocks", "head"]


def test_what_is_unfolded_stays_so_by_its_name_in_another_tree() -> None:
    outline = outline_of(a_tree({"b.x": 3, "b.y": 2, "c.z": 1}))
    unfold(outline, "b")
    unfold(outline, "c")
    outline.replace(sum_layers(a_tree({"a.first": 100, "b.x": 3, "b.y": 2, "c": 1}), "cpu"))
    assert names_in_sight(outline) == ["", "a", "b", "x", "y", "c"]


def test_a_tree_without_layers_shows_none() -> None:
    empty = LayerTree((), (), (), (), (), (), (), ())
    assert outline_of(empty).layers_in_sight() == []


def test_a_snapshot_that_claims_thousands_of_dtypes_costs_no_column_for_each() -> None:
    dtypes = tuple(f"d{number}" for number in range(5000))
    memory = tuple((0, 0, number, 1) for number in range(5000))
    sums = sum_layers(LayerTree(("",), (0,), ("C",), (0,), (0,), ("cpu",), dtypes, memory), "cpu")
    assert sums.on_bytes[0] == 5000
    assert sums.dtypes[0] == "d0+"
    assert len(dtypes) > MOST_DTYPES


def test_a_chain_of_a_hundred_thousand_layers_is_summed_without_recursion_and_in_steps_by_the_layer() -> None:
    count = 100_000
    tree = LayerTree(
        ("x",) * count, tuple(range(count)), ("C",), (0,) * count, (1,) * count, ("cpu",), ("int8",), ((count - 1, 0, 0, 7),)
    )
    with counted() as work:
        sums = sum_layers(tree, "cpu")
    assert (sums.on_bytes[0], sums.parameters[0]) == (7, count)
    assert work.steps < 50 * count
    assert len(outline_of(tree).layers_in_sight()) < 20
