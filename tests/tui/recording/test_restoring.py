"""What was recorded comes back as the same view; what somebody else wrote is refused in one line."""

from __future__ import annotations

import json
from dataclasses import replace
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import pytest

from gpumodels_shared.liveness import Liveness
from gpumodels_shared.schema import Fingerprint, OutOfMemory, Stage, TensorSample
from gpumodels_tui.catalogue.facts import CatalogueState, ValuesMatch
from gpumodels_tui.outside.facts import KnownBy, OutsideFacts, OutsideModel
from gpumodels_tui.recording.lines import RecordingError
from gpumodels_tui.recording.restoring import Restorer
from gpumodels_tui.recording.state_document import StateDocuments
from gpumodels_tui.sources.feed import FeedState, Unreadable
from gpumodels_tui.sources.gpus import GpuProcess, HardwareState
from gpumodels_tui.view.builder import build_view
from snapshots import (
    GIB,
    H100,
    NOON_NS,
    a_catalogue,
    a_feed,
    a_gpu,
    a_model,
    a_process,
    a_process_state,
    a_snapshot,
    a_tree,
    some_facts,
    some_hardware,
)

FILE = "/models/wan.safetensors"
FINGERPRINT = Fingerprint((TensorSample("w", "bfloat16", (4,), b"\0" * 8),), NOON_NS)


def everything() -> tuple[FeedState, HardwareState, CatalogueState]:
    """A feed that has one of everything."""
    named = replace(
        a_model(
            "Wan", 2 * GIB, device="cuda:0", off_bytes=GIB, tree=a_tree({"blocks.0": GIB}), files=["/models/wan.safetensors"]
        ),
        metadata={"k": "v\x1b"},
    )
    by_values = replace(a_model("X", GIB, id="x", name_source="class", confidence=0.0), fingerprint=FINGERPRINT)
    pending = a_model("P", GIB, id="p", name_source="pending", confidence=0.0, parent="x")
    snapshot = replace(
        a_snapshot(named, by_values, pending, uuids={"cuda:0": H100}, warnings=["odd \x1b[31m"]),
        stages=(Stage("4", "KSampler", NOON_NS, None, "cuda:0", 1, None, 3, ("/a",)),),
        out_of_memory=(OutOfMemory(NOON_NS, "cuda:0", models=(("Wan", 5),), recent=((1, "loaded", "m", 2),)),),
    )
    feed = a_feed(
        a_process_state(snapshot, key="one"),
        a_process_state(a_snapshot(process=a_process(pid=7)), Liveness.DEAD, key="two", problem="torn"),
        changed(a_process_state(None, key="three", pid=9), late_seconds=3.5, outer_pid=12),
        unreadable=[Unreadable(Path("/dev/shm/gpumodels-1000/x.gpm"), "empty file")],
    )
    from_outside = OutsideModel(KnownBy.MAPPED, ("/models/q.gguf",), file_bytes=GIB, mapped_bytes=GIB, is_here=True)
    hardware = changed(
        some_hardware(a_gpu(processes={4711: GIB, 99: None}), problems=["no driver"]),
        running={99: GpuProcess(99, ("llama-server", "x"), None, NOON_NS, OutsideFacts((from_outside,), "why", "no key"))},
    )
    facts = some_facts("/models/wan.safetensors", {"modelspec.title": "Wan"}, {"bfloat16": 3 * GIB})
    values = {FINGERPRINT: ValuesMatch(("/models/other.safetensors",), (), 4, 4)}
    other = some_facts("/models/q.gguf", {"general.name": "Q"})
    return feed, hardware, changed(a_catalogue(facts, other, warnings=["a folder is missing"]), values=values)


def stored(document: dict[str, Any]) -> dict[str, Any]:
    """As it comes out of a file."""
    copy: dict[str, Any] = json.loads(json.dumps(document))
    return copy


def test_the_screens_see_the_same_in_what_is_restored() -> None:
    sources = everything()
    restored = Restorer().restore(stored(StateDocuments(2**20).document(*sources, 0.0)))
    live, replayed = build_view(*sources), build_view(*restored)
    assert replayed.warnings == live.warnings
    assert replayed.directories == live.directories
    for one, other in zip(replayed.devices, live.devices, strict=True):
        assert changed(one, models=()) == changed(other, models=())
        for row, original in zip(one.models, other.models, strict=True):
            assert (row.name, row.on_bytes, row.off_bytes, row.facts, row.note) == (
                original.name,
                original.on_bytes,
                original.off_bytes,
                original.facts,
                original.note,
            )
            assert row.file_sizes == original.file_sizes
            assert dict(row.metadata) == dict(original.metadata)
    assert {row.name for device in replayed.devices for row in device.models} == {"Wan", "other", "P …"}
    for process, state in zip(replayed.process_rows, live.process_rows, strict=True):
        assert (process.key, process.title, process.devices) == (state.key, state.title, state.devices)
    (first, *_) = replayed.processes
    assert first.snapshot is not None
    assert live.processes[0].snapshot is not None
    assert first.snapshot.stages == live.processes[0].snapshot.stages
    assert first.snapshot.out_of_memory == live.processes[0].snapshot.out_of_memory
    assert first.trees == live.processes[0].trees
    assert first.may_lack_trees


def test_what_stays_the_same_is_made_and_restored_once() -> None:
    feed, hardware, catalogue = everything()
    documents, restorer = StateDocuments(0), Restorer()
    before = documents.document(feed, hardware, catalogue, 0.0)
    after = documents.document(changed(feed, processes=feed.processes[:2]), hardware, catalogue, 2.0)
    assert after["processes"]["one"] is before["processes"]["one"]
    assert after["hardware"] is before["hardware"]
    assert restorer.restore(after)[0].processes[0] is restorer.restore(before)[0].processes[0]


def test_a_tree_that_changes_is_kept_no_more_than_once_a_minute_and_is_never_an_older_one() -> None:
    documents = StateDocuments(2**20)

    def kept(size: int, now: float) -> bool:
        state = a_process_state(a_snapshot(a_model("m", GIB, tree=a_tree({"block": size}))))
        sources = Restorer().restore(stored(documents.document(a_feed(state), some_hardware(), CatalogueState(), now)))
        trees = sources[0].processes[0].trees
        assert trees in ({}, state.trees)
        return bool(trees)

    assert kept(1, 0.0)
    assert kept(1, 2.0)
    assert not kept(2, 4.0)
    assert kept(1, 6.0)
    assert kept(3, 61.0)


def test_no_more_trees_are_kept_than_there_is_room_for() -> None:
    state = a_process_state(a_snapshot(*(a_model(f"m{number}", GIB, tree=a_tree({"x" * 500: 1})) for number in range(10))))
    documents = StateDocuments(2000).document(a_feed(state), some_hardware(), CatalogueState(), 0.0)
    assert 1 <= len(documents["processes"]["4711"]["trees"]) <= 3
    assert StateDocuments(0).document(a_feed(state), some_hardware(), CatalogueState(), 0.0)["processes"]["4711"]["trees"] == {}


def damaged(**changes: Any) -> dict[str, Any]:
    document = stored(StateDocuments(0).document(*everything(), 0.0))
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = document
        for name in parents:
            place = place[name]
        place[last] = value
    return document


@pytest.mark.parametrize(
    "document",
    [
        damaged(processes=[]),
        damaged(processes={"x": 1}),
        damaged(processes={"x": {}}),
        damaged(processes__one__pid=-1),
        damaged(processes__one__pid=2**70),
        damaged(processes__one__liveness="undead"),
        damaged(processes__one__snapshot=[]),
        damaged(processes__one__snapshot={}),
        damaged(processes__one__snapshot__models=[]),
        damaged(processes__one__snapshot__models={"wan": 1}, processes__one__snapshot__order=["wan"]),
        damaged(processes__one__snapshot__order=5),
        damaged(processes__one__snapshot__order=[[]]),
        damaged(processes__one__snapshot__models__wan__layers=-1),
        damaged(processes__one__snapshot__models__wan__layers=2**80),
        damaged(processes__one__snapshot__models__wan__parent="wan"),
        damaged(processes__one__trees={"wan": "%%%"}),
        damaged(hardware=7),
        damaged(hardware__gpus=[{}]),
        damaged(hardware__host_total_bytes=-1),
        damaged(files={"/x": {}}),
        damaged(warnings=[1]),
        damaged(unreadable=[["x"]]),
        damaged(directories="x"),
    ],
)
def test_what_nobody_recorded_is_refused_in_one_line(document: dict[str, Any]) -> None:
    with pytest.raises(RecordingError) as refused:
        Restorer().restore(document)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


def test_a_devices_figures_that_cannot_be_are_refused() -> None:
    document = damaged()
    document["hardware"]["gpus"][0]["used_bytes"] = -5
    with pytest.raises(RecordingError):
        Restorer().restore(document)
