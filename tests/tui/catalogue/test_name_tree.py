"""Paths below a directory: the right ones, whatever came and went, at a cost that others don't add to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gpumodels_tui.catalogue.name_tree import NameTree
from work import counted

PATHS = st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))


@given(st.lists(st.tuples(st.booleans(), PATHS)), PATHS | st.just("/"))
def test_it_finds_what_a_comparison_of_every_path_would(changes: list[tuple[bool, str]], directory: str) -> None:
    tree, paths = NameTree(), set()
    for is_added, path in changes:
        if is_added:
            tree.add(path)
            paths.add(path)
        else:
            tree.discard(path)
            paths.discard(path)
    start = directory.rstrip("/") + "/"
    assert sorted(tree.below(directory)) == sorted(path for path in paths if path.startswith(start))


def test_nothing_is_left_of_what_was_discarded() -> None:
    tree = NameTree()
    paths = [f"/m/{first}/{second}/model.safetensors" for first in "ab" for second in "cd"]
    for path in paths:
        tree.add(path)
    for path in paths:
        tree.discard(path)
    assert (tree._names, tree._directories) == ({}, {})


def test_other_directories_cost_nothing() -> None:
    def cost(others: int) -> int:
        tree = NameTree()
        for number in range(others):
            tree.add(f"/others/{number}/model.safetensors")
        tree.add("/m/mine/model.safetensors")
        with counted() as work:
            assert list(tree.below("/m")) == ["/m/mine/model.safetensors"]
        return work.steps

    assert cost(1000) == cost(1)
