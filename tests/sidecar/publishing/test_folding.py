from __future__ import annotations

from dataclasses import replace

import pytest

from gpumodels.publishing import packing
from gpumodels.publishing.folding import fold_below, fold_deepest
from gpumodels.publishing.packing import SnapshotPacker
from gpumodels_shared.decoding import decode
from gpumodels_shared.schema import LayerTree
from snapshots import a_model, a_snapshot, a_tree

DEEP = a_tree({"blocks.0.attn.q": 10, "blocks.0.attn.k": 20, "blocks.0": 3, "blocks.1.attn.q": 40, "head": 5})


def total(tree: LayerTree) -> int:
    return sum(size for *_, size in tree.memory)


def test_what_is_deeper_is_added_to_its_ancestor_and_no_byte_is_lost() -> None:
    folded = fold_below(DEEP, 2)
    assert folded.names == ("", "blocks", "0", "1", "head")
    assert [size for layer, *_, size in folded.memory] == [33, 40, 5]
    assert folded.folded == len(DEEP.names) - 5
    assert total(folded) == total(DEEP)
    assert sum(folded.parameters) == sum(DEEP.parameters)


def test_folding_ends_with_every_tree_a_single_row() -> None:
    snapshot = a_snapshot(a_model("a", tree=DEEP), a_model("b", tree=a_tree({"q": 7})))
    while (smaller := fold_deepest(snapshot)) is not None:
        snapshot = smaller
    assert [len(model.tree.names) for model in snapshot.models if model.tree is not None] == [1, 1]
    assert [total(model.tree) for model in snapshot.models if model.tree is not None] == [total(DEEP), 7]


def test_a_snapshot_over_the_limit_is_folded_until_it_fits_and_is_still_true(monkeypatch: pytest.MonkeyPatch) -> None:
    large = a_model("large", tree=a_tree({f"blocks.{index}.attn.q": index + 1 for index in range(500)}))
    snapshot = replace(a_snapshot(large), warnings=("kept",))
    limit = len(SnapshotPacker(lambda: None).pack(snapshot)) // 2
    monkeypatch.setattr(packing, "MAX_PAYLOAD_BYTES", limit)
    payload = SnapshotPacker(lambda: None).pack(snapshot)
    assert len(payload) <= limit
    (model,) = decode(payload).models
    assert model.tree is not None
    assert model.tree.folded > 0
    assert total(model.tree) == sum(range(1, 501))
