"""What is kept of a file, and what isn't; the rest is in `test_restoring`, which brings it back."""

from __future__ import annotations

from gpumodels_tui.recording.state_document import LARGEST_METADATA_BYTES, StateDocuments
from snapshots import GIB, a_catalogue, a_feed, a_model, a_process_state, a_snapshot, some_facts, some_hardware


def test_only_files_of_models_are_kept_and_no_huge_metadata() -> None:
    small = some_facts("/m/a.safetensors", {"title": "A"})
    large = some_facts("/m/b.safetensors", {"thumbnail": "x" * (LARGEST_METADATA_BYTES + 1)})
    other = some_facts("/m/c.safetensors", {"title": "C"})
    models = [a_model("a", GIB, files=["/m/a.safetensors"]), a_model("b", GIB, files=["/m/b.safetensors"])]
    feed = a_feed(a_process_state(a_snapshot(*models)))
    document = StateDocuments(0).document(feed, some_hardware(), a_catalogue(small, large, other), 0.0)
    assert set(document["files"]) == {"/m/a.safetensors", "/m/b.safetensors"}
    assert document["files"]["/m/a.safetensors"]["metadata"] == {"title": "A"}
    assert document["files"]["/m/b.safetensors"]["metadata"] == {}
