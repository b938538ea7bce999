"""Models that are in memory more than once, and those that only look so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from gpumodels_shared.schema import Model
from gpumodels_tui.catalogue.facts import CatalogueState
from gpumodels_tui.service.same_files import copies
from gpumodels_tui.view.builder import build_view
from gpumodels_tui.view.rows import ModelRow
from snapshots import a_feed, a_model, a_process, a_process_state, a_snapshot, some_hardware

FILE = "/m/wan.safetensors"


def a_copy(pid: int, is_local: bool = True, **changes: Any) -> tuple[str, ModelRow]:
    model: Model = replace(a_model(files=[FILE], confidence=0.97), **changes)
    state = a_process_state(a_snapshot(model, process=a_process(pid=pid)), is_local=is_local)
    view = build_view(a_feed(state), some_hardware(), CatalogueState())
    (row,) = (row for device in view.devices for row in device.models)
    return "gpu:1", row


def counted(*rows: tuple[str, ModelRow]) -> list[int]:
    return list(copies(rows).values())


def test_two_processes_with_the_same_file_hold_two_copies_and_on_two_devices_one_each() -> None:
    first, second = a_copy(1), a_copy(2)
    assert counted(first, second) == [2, 2]
    assert counted(first, ("gpu:2", second[1])) == [1, 1]


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
