from __future__ import annotations

from dataclasses import replace

from gpumodels.publishing.packing import SnapshotPacker
from gpumodels_shared.codec import encode
from snapshots import a_model, a_snapshot, a_tree


def test_what_is_packed_in_pieces_is_byte_for_byte_what_the_codec_writes() -> None:
    pauses: list[None] = []
    large = a_model("large", tree=a_tree({f"blocks.{index}.q": 70_000 + index for index in range(6000)}))
    snapshot = a_snapshot(large, a_model("small", tree=a_tree({"q": 5})), a_model("none"))
    assert SnapshotPacker(lambda: pauses.append(None)).pack(snapshot) == encode(snapshot)
    assert len(pauses) > 8


def test_a_model_that_is_the_same_object_is_packed_once() -> None:
    pauses: list[None] = []
    large = a_model("large", tree=a_tree({f"blocks.{index}": index for index in range(9000)}))
    packer = SnapshotPacker(lambda: pauses.append(None))
    packer.pack(a_snapshot(large))
    pauses.clear()
    later = a_snapshot(large, a_model("new"))
    assert packer.pack(later) == encode(later)
    assert pauses == []
    changed = a_snapshot(replace(large, name="other"))
    assert packer.pack(changed) == encode(changed)
