"""Tests of the facts about a model."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from gpumodels_shared.liveness import Liveness
from gpumodels_shared.name_sources import NameSource
from gpumodels_shared.records import replace
from gpumodels_tui.view.model_facts import MOST_LISTED, SOURCES, Fact, facts_of, headline, raw_metadata
from gpumodels_tui.view.rows import ModelRow
from snapshots import GIB, MIB, NOON_NS, WAN, a_model, a_process_state, a_snapshot
from views import a_row

EVIL = "\x1b]0;owned\x07\u202e"


def with_model(row: ModelRow, **changes: Any) -> ModelRow:
    return replace(row, model=dataclasses.replace(row.model, **changes))


def told(row: ModelRow, label: str) -> list[str]:
    """The facts under this label, and under the blank labels below it."""
    values: list[str] = []
    current = ""
    for fact in facts_of(row):
        current = fact.label or current
        if current == label:
            values.append(fact.value)
    return values


def test_the_headline_is_name_kind_bytes_and_layers() -> None:
    assert headline(a_row(WAN, 2 * GIB, off_bytes=GIB)) == f"{WAN} (checkpoint, 3.0 GB, 145 layers)"
    assert headline(with_model(a_row("q4", GIB), unread_tensors=2)) == "q4 (checkpoint, 1.0 GB + unknown, 145 layers)"


def test_every_way_to_a_name_is_said_in_words() -> None:
    assert set(NameSource) - SOURCES.keys() == {NameSource.SUM}  # of many small modules, whose name says it
    row = a_row()
    assert told(with_model(row, name_source="mapped file", confidence=0.99), "named by") == [
        "the file that its weights are mapped from (sure)"
    ]
    assert told(with_model(row, name_source="values", confidence=0.75), "named by") == [
        "its values, which match the file's (likely)"
    ]
    assert told(with_model(row, name_source="class", confidence=0.0), "named by") == ["its class; no file is known (uncertain)"]


def test_a_way_that_only_a_newer_sidecar_knows_stands_as_it_is() -> None:
    assert told(with_model(a_row(), name_source=f"stars{EVIL}", confidence=0.6), "named by") == [
        "stars\\x1b]0;owned\\x07\\u202e (likely)"
    ]


def test_an_architecture_stands_with_the_class_where_it_says_more() -> None:
    row = a_row(class_name="WanModel")
    assert told(row, "class") == ["WanModel"]
    assert told(with_model(row, architecture="WanModel"), "class") == ["WanModel"]
    assert told(with_model(row, architecture="wan2.2"), "class") == ["WanModel · wan2.2"]


def test_memory_is_told_by_the_lists_names_of_devices_most_first() -> None:
    row = with_model(a_row(), bytes_by_device={"cpu": GIB, "cuda:1": 2 * GIB, "xpu:0": MIB}, device="cuda:1", offloaded_bytes=GIB)
    assert told(row, "memory") == ["2.0 GB on GPU 1, 1.0 GB in host memory, 1.0 MB on xpu:0"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"bytes_by_device": {}, "offloaded_bytes": 0}, "none"),
        ({"bytes_by_device": {"cuda:0": GIB}, "offloaded_bytes": 3 * GIB}, "1.0 GB on GPU 0, 3.0 GB on disk or not loaded"),
        (
            {"bytes_by_device": {"cuda:0": GIB}, "offloaded_bytes": 3 * GIB, "dynamic_memory": True},
            "1.0 GB on GPU 0, 3.0 GB on disk only",
        ),
        (
            {"bytes_by_device": {"cuda:0": GIB, "cpu": 2 * GIB}, "offloaded_bytes": 2 * GIB, "pinned_bytes": GIB},
            "2.0 GB in host memory, 1.0 GB of it pinned, 1.0 GB on GPU 0",
        ),
        (
            {"bytes_by_device": {"cpu": 2 * GIB}, "offloaded_bytes": 2 * GIB, "asleep_bytes": 2 * GIB, "asleep_in": "host"},
            "2.0 GB in host memory, asleep: 2.0 GB in host memory",
        ),
        (
            {"bytes_by_device": {"cuda:0": GIB}, "imported_bytes": 2 * GIB},
            "1.0 GB on GPU 0, 2.0 GB of another process, counted there",
        ),
        (
            {"bytes_by_device": {}, "offloaded_bytes": 2 * GIB, "asleep_bytes": 2 * GIB, "asleep_in": "discarded"},
            "asleep: 2.0 GB discarded",
        ),
        (
            {"bytes_by_device": {"cuda:0": GIB}, "offloaded_bytes": 3 * GIB, "asleep_bytes": 2 * GIB, "asleep_in": None},
            "1.0 GB on GPU 0, 1.0 GB on disk or not loaded, asleep: 2.0 GB",
        ),
        ({"bytes_by_device": {"cuda:0": GIB}, "unread_tensors": 1}, "1.0 GB on GPU 0, 1 tensor of unknown size"),
        ({"bytes_by_device": {"cuda:0": GIB}, "unread_tensors": 2}, "1.0 GB on GPU 0, 2 tensors of unknown size"),
        (
            {"bytes_by_device": {"cuda:0": GIB}, "shared_bytes": GIB},
            "1.0 GB on GPU 0, 1.0 GB more shared with other models, counted there",
        ),
    ],
)
def test_what_is_missing_or_shared_is_said_with_the_memory(changes: dict[str, object], expected: str) -> None:
    assert told(with_model(a_row(), **changes), "memory") == [expected]


def test_a_model_whose_pages_come_and_go_is_called_as_large_as_it_is() -> None:
    row = with_model(a_row("wan", GIB), dynamic_memory=True, offloaded_bytes=7 * GIB)
    assert "8.0 GB" in headline(row)
    assert "come and go" in told(row, "paging")[0]
    assert told(a_row("wan", GIB), "paging") == []


def test_of_many_models_that_share_its_memory_three_are_named() -> None:
    models = [a_model(f"m{number}", GIB, id=str(number)) for number in range(5)]
    row = replace(
        with_model(a_row("it", GIB), shares_with=("0", "1", "2", "3", "4", "gone")),
        process_state=a_process_state(a_snapshot(*models)),
    )
    assert told(row, "memory") == ["1.0 GB on GPU 0, some of it shared with m0, m1, m2 and 2 more"]


def test_shards_in_several_directories_have_no_place_in_common() -> None:
    row = a_row(files=["/a/1.safetensors", "/b/2.safetensors"], file_sizes={"/a/1.safetensors": GIB, "/b/2.safetensors": GIB})
    assert told(row, "file") == ["2 files, 2.0 GB"]
    assert told(row, "files") == ["/a/1.safetensors  1.0 GB", "/b/2.safetensors  1.0 GB"]


def test_of_many_candidates_some_are_listed_and_the_others_counted() -> None:
    row = a_row(candidates=[f"/m/{number}.safetensors" for number in range(MOST_LISTED + 3)])
    listed = told(row, "could be")
    assert len(listed) == MOST_LISTED + 1
    assert listed[-1] == "and 3 more"
    assert [fact.is_path for fact in facts_of(row) if fact.value == listed[0]] == [True]


def test_what_the_files_say_stands_in_their_own_order_and_dtypes_where_it_says_nothing() -> None:
    row = a_row("m", GIB, facts={"title": "Wan", "author": "Ada"})
    labels = [fact.label for fact in facts_of(row)]
    assert labels[labels.index("title") :] == ["title", "author", "parameters", "process"]
    assert told(a_row("m", GIB), "dtypes") == ["bfloat16 1.0 GB"]
    mixed = with_model(row, dtypes={"float32": MIB, "float8_e4m3fn": GIB})
    assert told(mixed, "dtypes") == ["float8_e4m3fn 1.0 GB, float32 1.0 MB"]


def test_a_state_and_a_slot_stand_with_the_process() -> None:
    row = with_model(a_row(note="stalled"), slot="unet")
    assert (told(row, "process"), told(row, "slot")) == (["ComfyUI/main.py 4711 (stalled)"], ["unet"])


def test_what_is_left_of_a_model_says_what_it_waits_for() -> None:
    row = with_model(a_row("left of m"), leftover_of="m", name_source=NameSource.LEFTOVER, confidence=1.0)
    assert told(row, "named by") == ["the model that it is left of (sure)"]
    assert told(row, "held by") == ["reference cycles only: it waits for Python's garbage collector"]
    assert told(a_row("m"), "held by") == []


def test_raw_metadata_stand_as_the_files_hold_them_by_key() -> None:
    row = a_row(metadata={"ss_steps": "10", "modelspec.title": f"Wan{EVIL}"})
    assert raw_metadata(row) == [Fact("modelspec.title", "Wan\\x1b]0;owned\\x07\\u202e"), Fact("ss_steps", "10")]


def test_whether_the_processes_own_manager_knows_a_model_is_said() -> None:
    snapshot = dataclasses.replace(a_snapshot(), model_manager="ComfyUI")
    row = replace(a_row(), process_state=a_process_state(snapshot))
    assert told(row, "manager") == ["not managed by ComfyUI: its 'unload models' does not free it"]
    assert told(with_model(row, managed_by="ComfyUI", managed_bytes=GIB), "manager") == ["ComfyUI, 1.0 GB loaded by it"]
    assert told(with_model(row, managed_by="ComfyUI", managed_bytes=0), "manager") == ["ComfyUI, not loaded by it now"]
    assert told(with_model(row, managed_by="ComfyUI"), "manager") == ["ComfyUI"]
    for beside in ({"parent": "base"}, {"leftover_of": "gone"}, {"id": "small"}):
        assert told(with_model(row, **beside), "manager") == []
    assert told(a_row(), "manager") == []
    assert told(replace(row, process_state=a_process_state(None)), "manager") == []


@pytest.mark.parametrize("known_by", ["calls", "allocations", "process"])
def test_since_when_it_has_not_run_is_said_with_how_that_is_known(known_by: str) -> None:
    row = with_model(a_row(WAN), last_used_ns=NOON_NS, last_used_by=known_by)
    (said,) = told(row, "not run since")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d: (none of|its process) .+", said)


def test_where_that_is_not_known_nothing_is_said() -> None:
    assert told(a_row(WAN), "not run since") == []
    row = with_model(a_row(WAN), last_used_ns=NOON_NS, last_used_by="process")
    stalled = replace(row, process_state=replace(row.process_state, liveness=Liveness.STALLED))
    assert told(stalled, "not run since") == []
