"""Models that are in memory more than once, and those that only look so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from gpumodels_shared.liveness import Liveness
from gpumodels_shared.schema import Model
from gpumodels_tui.catalogue.facts import CatalogueState
from gpumodels_tui.json_output import document
from gpumodels_tui.oneshot import Snapshots
from gpumodels_tui.sources.feed import ProcessState
from gpumodels_tui.view.builder import ViewBuilder, build_view
from gpumodels_tui.view.copies import Resident, copies_of
from gpumodels_tui.view.filtering import filtered
from gpumodels_tui.view.filters import Filters
from gpumodels_tui.view.model_facts import facts_of
from gpumodels_tui.view.rows import ModelRow
from snapshots import GIB, a_feed, a_model, a_process, a_process_state, a_snapshot, some_hardware

FILE = "/m/wan.safetensors"


def a_copy(
    pid: int, device: str = "gpu:1", is_local: bool = True, liveness: Liveness = Liveness.LIVE, **changes: Any
) -> Resident:
    model: Model = replace(a_model(files=[FILE], confidence=0.97), **changes)
    state = a_process_state(a_snapshot(model, process=a_process(pid=pid)), liveness, is_local=is_local)
    return Resident(device, model.id, model.resident_bytes, model, state)


def counted(*residents: Resident) -> list[int]:
    return [copies.count for copies in copies_of(residents).values()]


def test_two_processes_with_the_same_file_hold_two_copies_and_on_two_devices_one_each() -> None:
    assert counted(a_copy(1), a_copy(2)) == [2, 2]
    assert counted(a_copy(1), a_copy(2, "gpu:2")) == [1, 1]
    (copies,) = set(copies_of([a_copy(1), a_copy(2)]).values())
    assert copies.bytes == 2 * a_copy(1).bytes


@pytest.mark.parametrize(
    "other",
    [
        {"files": ("/m/other.safetensors",)},
        {"file_stamps": ((5, 5),)},
        {"class_name": "AutoencoderKL"},
        {"kind": "vae"},
        {"slot": "text_encoder_2"},
        {"parameters": 7},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_models_of_one_file_that_differ_are_no_copies(other: Mapping[str, Any]) -> None:
    assert counted(a_copy(1), a_copy(2, **other)) == [1, 1]


def test_a_model_without_certain_files_is_not_compared() -> None:
    assert counted(a_copy(1, files=()), a_copy(2, files=())) == []
    assert counted(a_copy(1, confidence=0.3), a_copy(2, confidence=0.3)) == []


def test_in_containers_a_path_alone_is_not_enough() -> None:
    assert counted(a_copy(1), a_copy(2, is_local=False)) == [1]
    stamps = ((5, 5),)
    assert counted(a_copy(1, file_stamps=stamps), a_copy(2, is_local=False, file_stamps=stamps)) == [2, 2]


def test_what_holds_no_memory_of_its_own_is_no_copy() -> None:
    shared = a_copy(2, bytes_by_device={"cpu": 5}, shared_bytes=7)
    assert counted(a_copy(1), shared) == [1]
    assert counted(a_copy(1), a_copy(2, liveness=Liveness.DEAD)) == [1]
    assert counted(a_copy(1), a_copy(2, bytes_by_device={})) == [1]
    assert counted(a_copy(1), a_copy(2, leftover_of="wan")) == [1]


def seen(*states: ProcessState) -> list[ModelRow]:
    view = build_view(a_feed(*states), some_hardware(), CatalogueState())
    return [row for device in view.devices for row in device.models]


def a_holder(pid: int, *models: Model) -> ProcessState:
    return a_process_state(a_snapshot(*models, process=a_process(pid=pid)), key=f"process {pid}")


TWICE = [a_model("wan", 2 * GIB, id=id, files=[FILE], confidence=0.97) for id in ("first", "second")]


def test_rows_say_how_many_copies_there_are_and_facts_what_they_take() -> None:
    rows = seen(a_holder(1, *TWICE), a_holder(2, TWICE[0]))
    assert [row.note for row in rows] == ["one of 3 copies"] * 3
    facts = {fact.label: fact.value for fact in facts_of(rows[0])}
    assert facts["copies"] == "6.0 GB in 3 copies from the same files, one of them in another process"
    (alone,) = seen(a_holder(1, TWICE[0]))
    assert alone.note == ""
    assert "copies" not in {fact.label for fact in facts_of(alone)}


@pytest.mark.parametrize(
    ("source", "said"),
    [("values", "or loaded in a way that wasn't seen"), ("state dict", "read from the file"), ("node input", None)],
)
def test_facts_tell_second_loads_from_copies_as_far_as_that_is_known(source: str, said: str | None) -> None:
    row = seen(a_holder(1, *(replace(model, name_source=source) for model in TWICE)))[0]
    lines = [fact.value for fact in facts_of(row) if fact.value.startswith("this one")]
    assert len(lines) == (said is not None)
    assert all(line.endswith(said or "") for line in lines)


def test_rows_that_nothing_changed_stay_the_same_objects() -> None:
    builder, files = ViewBuilder(), CatalogueState()
    states = [a_holder(1, *TWICE), a_holder(2, TWICE[0])]
    first, second = (builder.build(a_feed(*states), some_hardware(), files) for _ in range(2))
    assert all(a is b for a, b in zip(first.devices[0].models, second.devices[0].models, strict=True))
    without = builder.build(a_feed(states[0]), some_hardware(), files)
    assert [row.note for row in without.devices[0].models] == ["one of 2 copies"] * 2


def test_only_copies_are_left_by_their_filter_on_the_screens_and_in_the_document() -> None:
    feed = a_feed(a_holder(1, *TWICE, a_model("vae", GIB, id="vae", files=["/m/vae.safetensors"], confidence=0.97)))
    view = build_view(feed, some_hardware(), CatalogueState())
    filters = Filters(copies=True)
    assert [row.model.id for row in filtered(view, filters).devices[0].models] == ["first", "second"]
    whole = document(Snapshots(feed, some_hardware(), CatalogueState(), 0))
    only = document(Snapshots(feed, some_hardware(), CatalogueState(), 0), filters)
    said = {model["id"]: (model["copies_by_device"], model["same_file_as"]) for model in models_in(whole)}
    assert said == {"first": ({"cpu": 2}, ["second"]), "second": ({"cpu": 2}, ["first"]), "vae": ({"cpu": 1}, [])}
    assert [model["id"] for model in models_in(only)] == ["first", "second"]


def models_in(whole: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [model for process in whole["processes"] for model in process["models"]]
