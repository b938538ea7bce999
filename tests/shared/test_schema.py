"""The snapshot's types: immutable, whole in themselves, and open to fields that later versions add."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from typing import Any

import pytest

from gpumodels_shared import schema
from gpumodels_shared.schema import KINDS, Model, SidecarHealth, Snapshot
from snapshots import GIB, a_device, a_model, a_process, a_snapshot, a_tree

TYPES: Mapping[str, Any] = {name: one for name, one in vars(schema).items() if isinstance(one, type) and is_dataclass(one)}

REQUIRED = {
    "ProcessInfo": {
        "pid",
        "uid",
        "label",
        "command",
        "started_at_ns",
        "python_version",
        "sidecar_version",
        "interval_seconds",
    },
    "DeviceMemory": {"device", "models_bytes"},
    "LayerTree": {"names", "depths", "class_names", "classes", "parameters", "devices", "dtypes", "memory"},
    "TensorSample": {"key", "dtype", "shape", "data"},
    "Fingerprint": {"samples", "taken_at_ns"},
    "Model": {
        "id",
        "name",
        "kind",
        "class_name",
        "loaded_at_ns",
        "bytes_by_device",
        "layers",
        "parameters",
        "dtypes",
    },
    "SidecarHealth": set(),
    "Snapshot": {"taken_at_ns", "process"},
}
"""What snapshots of version 1.0 have: nothing may be added to it, as files without it must be read for ever."""


def test_what_every_file_must_have_is_what_the_first_version_had() -> None:
    required = {
        name: {one.name for one in fields(kind) if one.default is MISSING and one.default_factory is MISSING}
        for name, kind in TYPES.items()
        if name in REQUIRED
    }
    assert required == REQUIRED


@pytest.mark.parametrize("name", TYPES)
def test_a_type_has_no_place_for_what_is_not_its_own(name: str) -> None:
    assert not hasattr(object.__new__(TYPES[name]), "__dict__")


def test_nothing_of_a_snapshot_can_be_changed() -> None:
    snapshot = a_snapshot(a_model(tree=a_tree({"blocks.0": 512})), devices=[a_device()])
    (model,), (device,) = snapshot.models, snapshot.devices
    for one, name in (
        (snapshot, "taken_at_ns"),
        (snapshot.process, "pid"),
        (snapshot.health, "failures"),
        (device, "device"),
        (model, "name"),
        (model.tree, "names"),
    ):
        with pytest.raises(AttributeError):
            setattr(one, name, None)


def test_two_models_share_none_of_what_they_were_made_with() -> None:
    first, second = (Model(str(id), "m", "model", "M", 0, {}, 0, 0, {}) for id in range(2))
    assert first.metadata is not second.metadata
    assert Snapshot(1, a_process()).health == SidecarHealth()


@pytest.mark.parametrize(
    ("bytes_by_device", "device", "resident_bytes", "on_device_bytes"),
    [
        ({"cuda:0": 3 * GIB, "cpu": GIB}, "cuda:0", 4 * GIB, 3 * GIB),
        ({"cpu": GIB}, "cuda:0", GIB, 0),
        ({"cpu": GIB}, None, GIB, GIB),
        ({"cuda:1": GIB}, None, GIB, 0),
        ({}, "cuda:0", 0, 0),
    ],
)
def test_bytes_in_memory_are_on_all_devices_and_those_where_it_runs_on_one(
    bytes_by_device: dict[str, int], device: str | None, resident_bytes: int, on_device_bytes: int
) -> None:
    model = Model("m1", "m", "model", "M", 0, bytes_by_device, 0, 0, {}, device=device)
    assert (model.resident_bytes, model.on_device_bytes) == (resident_bytes, on_device_bytes)


def test_a_model_with_dynamic_memory_is_as_large_as_all_its_bytes() -> None:
    model = Model("m1", "wan", "checkpoint", "Wan", 0, {"cuda:0": 2, "cpu": 3}, 1, 1, {}, device="cuda:0", offloaded_bytes=8)
    assert (model.size_bytes, replace(model, dynamic_memory=True).size_bytes) == (5, 10)


def test_a_kind_that_was_ever_written_is_one_for_ever() -> None:
    first = "checkpoint, lora, vae, clip, llm, controlnet, upscaler, depth, embedding, audio, model"
    assert set(KINDS) >= set(first.split(", "))
