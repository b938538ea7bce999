"""What `make gpu-check` compares, on a stand-in for ComfyUI's patcher and its VBAR: agreement and difference are both told."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from comfyui.memory_check import MODES, differences
from comfyui.probe_nodes import Memory, memory_of
from dynamic_vram import GPU, MIB, PAGE, Cast, Diffusion, HostBuffer, ModelVBAR, pin, staged
from gpumodels_shared.schema import DeviceMemory, Model, Snapshot
from modules import Attached, attached
from snapshots import a_process


class Patcher:
    """A patcher of a model with dynamic VRAM."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.load_device = GPU

    def is_dynamic(self) -> bool:
        return True

    def loaded_size(self) -> int:
        return int(self.model.dynamic_vbars[GPU].loaded_size())

    def pinned_memory_size(self) -> int:
        return int(self.model.dynamic_pins[GPU]["weights"][3][0])


@pytest.fixture
def sidecar() -> Iterator[Attached]:
    with attached() as parts:
        yield parts


def a_snapshot_of(models: tuple[Model, ...]) -> Snapshot:
    devices = (DeviceMemory("cuda:0", sum(one.on_device_bytes for one in models), allocated_bytes=5 * MIB, other_bytes=0),)
    return Snapshot(0, a_process(), devices, models)


def test_what_is_so_is_right_through_evictions(sidecar: Attached) -> None:
    model, vbar, buffer = Diffusion([Cast(48, bias=4096), Cast(80), Cast(3)]), ModelVBAR(8), HostBuffer()
    staged(model, vbar)
    pin(model.diffusion_model[0], buffer)
    for pages in ([], [0], [1, 3], [0, 1, 2, 3, 4], [2]):
        vbar.bring(*pages)
        truth: dict[str, Any] = {"models": [memory_of(Patcher(model)) | {"of_class": 1}], "devices": {}}
        assert differences(truth, a_snapshot_of(sidecar.models())) == []
        truth["models"][0]["in_pages"] += 2 * PAGE
        assert differences(truth, a_snapshot_of(sidecar.models())) != []


@pytest.mark.parametrize(
    ("key", "value"),
    [("loaded_size", 900 * MIB), ("size", 900 * MIB), ("is_dynamic", False), ("of_class", 2), ("class", "Other"), ("pinned", -1)],
)
def test_what_is_not_so_is_told(sidecar: Attached, key: str, value: Any) -> None:
    model, vbar = Diffusion([Cast(64)]), ModelVBAR(8)
    staged(model, vbar)
    vbar.bring(0)
    truth: dict[str, Any] = {"models": [memory_of(Patcher(model)) | {"of_class": 1}], "devices": {}}
    assert differences(truth, a_snapshot_of(sidecar.models())) == []
    truth["models"][0][key] = value
    assert differences(truth, a_snapshot_of(sidecar.models())) != []


def test_devices_are_compared_with_torch_and_with_all_that_comfyui_allocated(sidecar: Attached) -> None:
    model, vbar = Diffusion([Cast(64)]), ModelVBAR(8)
    staged(model, vbar)
    vbar.bring(0, 1)
    snapshot = a_snapshot_of(sidecar.models())
    right = {"allocated": 5 * MIB, "beside_torch": 64 * MIB, "aimdo_total": 80 * MIB}
    assert differences({"models": [], "devices": {"cuda:0": right}}, snapshot) == []
    for wrong in ({"allocated": 50 * MIB}, {"beside_torch": 0}, {"aimdo_total": 1}):
        assert differences({"models": [], "devices": {"cuda:0": right | wrong}}, snapshot) != []
    assert differences({"models": [], "devices": {"cuda:1": right}}, snapshot) != []


def test_the_node_lists_each_model_once_however_many_clones_of_its_patcher_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    model, vbar = Diffusion([Cast(64)]), ModelVBAR(8)
    staged(model, vbar)
    management: Any = ModuleType("comfy.model_management")
    management.current_loaded_models = [SimpleNamespace(model=one) for one in (Patcher(model), Patcher(model), None)]
    monkeypatch.setitem(sys.modules, "comfy.model_management", management)
    (text,) = Memory().note(1)["ui"]["text"]
    assert [one["class"] for one in json.loads(text)["memory"]["models"]] == ["Diffusion"]


def test_every_setting_that_moves_memory_has_its_session() -> None:
    settings = {argument for arguments in MODES.values() for argument in arguments if argument.startswith("--")}
    assert settings == {
        *("--disable-dynamic-vram", "--lowvram", "--novram", "--highvram", "--reserve-vram", "--disable-mmap"),
        "--disable-pinned-memory",
    }
