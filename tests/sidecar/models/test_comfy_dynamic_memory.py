"""Models with ComfyUI's dynamic VRAM are shown as what they are: single pages on a device, the rest in host memory or on disk."""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from dynamic_vram import GPU, MIB, PAGE, Cast, Diffusion, HostBuffer, ModelVBAR, cast_to, pin, ran, staged
from gpumodels.models.allocators import DeviceCounters, device_memory
from gpumodels.models.training_state import NonModelBytes
from gpumodels_shared.schema import DeviceMemory, Model
from modules import Attached, attached


@pytest.fixture
def sidecar() -> Iterator[Attached]:
    with attached() as parts:
        yield parts
        assert parts.failures.count == 0


def the_model(sidecar: Attached) -> Model:
    (found,) = sidecar.models()
    return found


def by_layer(model: Model) -> dict[tuple[str, str], int]:
    """Mebibytes by layer and device."""
    tree = model.tree
    assert tree is not None
    return {(tree.names[row], tree.devices[device]): size // MIB for row, device, _, size in tree.memory}


def whole(model: Model) -> int:
    return model.on_device_bytes + model.offloaded_bytes


def test_only_the_pages_in_memory_are_on_the_device(sidecar: Attached) -> None:
    model, vbar = Diffusion([Cast(32), Cast(64), Cast(16)]), ModelVBAR(40)
    staged(model, vbar)
    vbar.bring(0, 1)
    found = the_model(sidecar)
    assert (found.device, found.dynamic_memory, found.pinned_bytes) == ("cuda:0", True, 0)
    assert dict(found.bytes_by_device) == {"cuda:0": 64 * MIB, "cpu": 48 * MIB}
    assert found.offloaded_bytes == 48 * MIB
    assert by_layer(found) == {("0", "cuda:0"): 32, ("1", "cuda:0"): 32, ("1", "cpu"): 32, ("2", "cpu"): 16}
    assert dict(found.dtypes) == {"bfloat16": 112 * MIB}


def test_pages_come_and_go_and_the_sum_stays(sidecar: Attached) -> None:
    model, vbar = Diffusion([Cast(48, bias=4096), Cast(80, bias=4096), Cast(3)]), ModelVBAR(8)
    staged(model, vbar)
    size = 131 * MIB + 8192
    identities = set()
    for pages in ([], [0], [0, 1, 2, 3], [3], [1, 4], [0, 1, 2, 3, 4], [7], []):
        vbar.bring(*pages, pinned=True)
        for layer in model.diffusion_model:
            ran(layer)
        found = the_model(sidecar)
        assert whole(found) == size
        used = sum(min(PAGE, max(0, vbar.offset - page * PAGE)) for page in pages)
        assert 0 <= used - found.on_device_bytes <= 3 * 1024
        identities.add((found.id, found.name, found.loaded_at_ns, found.dynamic_memory))
    assert len(identities) == 1


def test_views_of_pages_pinned_buffers_and_backups_are_no_further_memory(sidecar: Attached) -> None:
    model, vbar = Diffusion([Cast(32), Cast(32), Cast(32)]), ModelVBAR(8)
    staged(model, vbar)
    vbar.bring(0)
    buffer = HostBuffer()
    for layer in model.diffusion_model:
        ran(layer)
        pin(layer, buffer)
        layer.__dict__["_prefetch"] = {"signature": None, "resident": False, "xfer_dest": layer._v_weight}
    found = the_model(sidecar)
    assert dict(found.bytes_by_device) == {"cuda:0": 32 * MIB, "cpu": 64 * MIB}
    assert found.pinned_bytes == 64 * MIB
    assert len(by_layer(found)) == 3


def test_a_pin_that_is_not_page_locked_now_is_in_host_memory_and_not_pinned(sidecar: Attached) -> None:
    model, vbar, buffer = Diffusion([Cast(32), Cast(32)]), ModelVBAR(8), HostBuffer()
    staged(model, vbar)
    first, second = model.diffusion_model
    pin(first, buffer)
    pin(second, buffer, registered=False)
    found = the_model(sidecar)
    assert (dict(found.bytes_by_device), found.pinned_bytes) == ({"cpu": 64 * MIB}, 32 * MIB)


def test_pins_that_come_later_are_seen(sidecar: Attached) -> None:
    model, vbar, buffer = Diffusion([Cast(32), Cast(32)]), ModelVBAR(8), HostBuffer()
    staged(model, vbar)
    assert the_model(sidecar).pinned_bytes == 0
    pin(model.diffusion_model[0], buffer)
    assert the_model(sidecar).pinned_bytes == 32 * MIB
    vbar.bring(0)
    assert the_model(sidecar).pinned_bytes == 0


def test_weights_that_are_cast_count_as_cast_where_they_are_in_memory(sidecar: Attached) -> None:
    layers = [Cast(64, torch.float32), Cast(64, torch.float32)]
    model, vbar = Diffusion(layers), ModelVBAR(8)
    for layer in layers:
        cast_to(layer, torch.bfloat16)
    staged(model, vbar)
    vbar.bring(1)
    found = the_model(sidecar)
    assert dict(found.bytes_by_device) == {"cuda:0": 32 * MIB, "cpu": 64 * MIB}
    assert dict(found.dtypes) == {"bfloat16": 32 * MIB, "float32": 64 * MIB}


def test_tied_weights_count_once_wherever_either_copy_is(sidecar: Attached) -> None:
    first, second = Cast(64), Cast(64)
    second.weight = first.weight
    model, vbar = Diffusion([first, second]), ModelVBAR(8)
    staged(model, vbar)
    vbar.bring(2, 3)
    found = the_model(sidecar)
    assert (dict(found.bytes_by_device), found.offloaded_bytes) == ({"cuda:0": 64 * MIB}, 0)
    vbar.bring(0, 1, 2, 3)
    assert whole(the_model(sidecar)) == 64 * MIB


def test_a_model_larger_than_its_device_has_more_weights_than_pages(sidecar: Attached) -> None:
    model, vbar = Diffusion([Cast(64), Cast(64)]), ModelVBAR(2)
    staged(model, vbar)
    vbar.bring(0, 1)
    assert dict(the_model(sidecar).bytes_by_device) == {"cuda:0": 64 * MIB, "cpu": 64 * MIB}


def test_small_weights_that_were_loaded_at_once_are_on_the_device(sidecar: Attached) -> None:
    model, vbar = Diffusion([Cast(32), Cast(1, device="cuda:0")]), ModelVBAR(8)
    staged(model, vbar)
    del model.diffusion_model[1]._v
    assert dict(the_model(sidecar).bytes_by_device) == {"cuda:0": MIB, "cpu": 32 * MIB}


def test_a_vbar_of_two_models_counts_in_each_what_is_its_own(sidecar: Attached) -> None:
    """A pair of text encoders is one model for ComfyUI, and two for people."""
    encoders: Any = nn.Module()
    encoders.clip_l, encoders.t5 = Diffusion([Cast(32)]), Diffusion([Cast(64)])
    vbar = ModelVBAR(8)
    staged(encoders, vbar)
    vbar.bring(0, 1)
    models = sidecar.models()
    assert sum(one.on_device_bytes for one in models) == 64 * MIB
    assert sum(whole(one) for one in models) == 96 * MIB
    assert all(one.dynamic_memory for one in models)


def test_a_model_runs_where_its_layers_have_their_parts_however_many_vbars_it_has(sidecar: Attached) -> None:
    """As after a node moved it to another GPU: the first one's range is still reserved."""
    model: Any = Diffusion([Cast(32), Cast(32)])
    first, second = ModelVBAR(8), ModelVBAR(8, device=1)
    staged(model, first)
    staged(model, second, torch.device("cuda:1"))
    model.dynamic_vbars = {GPU: first, torch.device("cuda:1"): second}
    first.bring(0, 1)
    found = the_model(sidecar)
    assert (found.device, dict(found.bytes_by_device), found.offloaded_bytes) == ("cuda:1", {"cpu": 64 * MIB}, 64 * MIB)
    second.bring(1)
    assert dict(the_model(sidecar).bytes_by_device) == {"cuda:1": 32 * MIB, "cpu": 32 * MIB}
    assert dict(sidecar.dynamic_memory.outside_torch) == {"cuda:0": 64 * MIB, "cuda:1": 32 * MIB}


def test_what_is_freed_in_the_middle_is_off_the_device(sidecar: Attached) -> None:
    model: Any = Diffusion([Cast(32), Cast(32)])
    vbar = ModelVBAR(8)
    staged(model, vbar)
    vbar.bring(0, 1)
    assert the_model(sidecar).offloaded_bytes == 0
    model.dynamic_vbars.clear()
    del vbar
    assert whole(the_model(sidecar)) == 64 * MIB
    assert the_model(sidecar).on_device_bytes == 0
    for layer in model.diffusion_model:
        del layer._v, layer._v_signature
    assert whole(the_model(sidecar)) == 64 * MIB


def test_no_model_and_no_vbar_is_kept_alive(sidecar: Attached) -> None:
    model, vbar = Diffusion([Cast(32)]), ModelVBAR(8)
    freed: list[bool] = []
    vbar.__class__ = type("ModelVBAR", (ModelVBAR,), {"__del__": lambda _: freed.append(True)})
    staged(model, vbar)
    the_model(sidecar)
    del vbar
    gc.collect()
    assert freed == []
    del model
    gc.collect()
    assert freed == [True]
    assert sidecar.models() == ()
    assert sidecar.dynamic_memory.shown == {}


def test_a_vbar_that_is_dropped_while_it_is_asked_is_freed_in_the_main_thread(sidecar: Attached) -> None:
    """Freeing it unmaps memory of the device, which is the host's to do."""
    freed: list[threading.Thread] = []

    class Dropped(ModelVBAR):
        def get_residency(self) -> list[int]:
            model.dynamic_vbars.clear()
            for layer in model.diffusion_model:
                layer._v = None
            return super().get_residency()

        def __del__(self) -> None:
            freed.append(threading.current_thread())

    model: Any = Diffusion([Cast(32)])
    staged(model, Dropped(4))
    scan = threading.Thread(target=sidecar.scan)
    scan.start()
    while scan.is_alive() or not freed:
        time.sleep(0.001)
    assert freed == [threading.main_thread()]


def test_a_patcher_s_originals_of_what_is_on_the_device_are_not_counted(sidecar: Attached) -> None:
    model: Any = Diffusion([Cast(32)])
    patcher: Any = type("ModelPatcherDynamic", (), {"__module__": "comfy.model_patcher"})()
    patcher.backup = {"diffusion_model.1.weight": SimpleNamespace(weight=Cast(8).weight)}
    model.current_patcher = patcher
    staged(model, ModelVBAR(4))
    assert whole(the_model(sidecar)) == 32 * MIB


def test_models_without_vbars_are_as_they_were(sidecar: Attached) -> None:
    """ComfyUI 0.8's, and everybody else's, `_v_weight` of their own included."""
    model: Any = Diffusion([Cast(32)])
    model.diffusion_model[0]._v_weight = Cast(8).weight.detach()
    found = the_model(sidecar)
    assert dict(found.bytes_by_device) == {"cpu": 40 * MIB}
    assert (found.dynamic_memory, found.pinned_bytes, found.device, found.offloaded_bytes) == (False, 0, "cpu", 0)


def test_a_vbar_that_cannot_be_asked_leaves_the_bytes_unknown() -> None:
    class Broken(ModelVBAR):
        def get_residency(self) -> list[int]:
            raise RuntimeError("lost")

    with attached() as sidecar:
        model, vbar = Diffusion([Cast(32)]), Broken(8)
        staged(model, vbar)
        for _ in range(3):
            found = the_model(sidecar)
            assert (whole(found), found.on_device_bytes, found.unread_tensors) == (32 * MIB, 0, 1)
        assert (sidecar.failures.count, vbar.asked) == (1, 1)


@pytest.mark.parametrize("missing", ["base_addr", "offset"])
def test_a_vbar_that_does_not_say_where_it_is_leaves_the_bytes_unknown(sidecar: Attached, missing: str) -> None:
    model, vbar = Diffusion([Cast(32)]), ModelVBAR(8)
    staged(model, vbar)
    vbar.bring(0)
    del vbar.__dict__[missing]
    for _ in range(3):
        found = the_model(sidecar)
        assert (whole(found), found.on_device_bytes, found.unread_tensors) == (32 * MIB, 0, 1)


def test_a_vbar_that_was_freed_has_nothing_in_memory(sidecar: Attached) -> None:
    model, vbar = Diffusion([Cast(32)]), ModelVBAR(8)
    staged(model, vbar)
    vbar.bring(0)
    vbar._ptr = None
    found = the_model(sidecar)
    assert (whole(found), found.on_device_bytes, found.unread_tensors) == (32 * MIB, 0, 0)


def test_odd_attributes_cost_a_detail_and_never_the_row() -> None:
    odd: list[dict[str, Any]] = [
        {"dynamic_vbars": {GPU: None}},
        {"dynamic_vbars": {GPU: object(), "cpu": 3}},
        {"dynamic_vbars": [ModelVBAR(2)]},
        {"dynamic_vbars": {}, "dynamic_pins": {GPU: {"weights": ()}}},
        {"dynamic_vbars": {None: ModelVBAR(2)}, "dynamic_pins": 3},
    ]
    for attributes in odd:
        with attached() as sidecar:
            model = Diffusion([Cast(32)])
            model.__dict__.update(attributes)
            found = the_model(sidecar)
            assert (found.class_name, whole(found)) == ("Diffusion", 32 * MIB)
            assert sidecar.failures.count == 0


def test_weights_mapped_from_a_file_are_on_disk_until_they_are_used(sidecar: Attached, tmp_path: Path) -> None:
    file = tmp_path / "sd_v1.safetensors"
    save_file({"0.weight": torch.randn(300, 300)}, file)
    model = Diffusion([nn.Linear(300, 300, bias=False)])
    model.diffusion_model.load_state_dict(load_file(file), assign=True)
    found = the_model(sidecar)
    size = found.resident_bytes
    model.__dict__["dynamic_vbars"] = {}
    before, found = found, the_model(sidecar)
    assert (found.id, found.name, found.files) == (before.id, "sd_v1", (str(file),))
    assert (dict(found.bytes_by_device), found.offloaded_bytes, found.device) == ({}, size, "cpu")


def test_the_device_of_a_model_that_is_on_disk_as_a_whole_is_listed(sidecar: Attached) -> None:
    model = Diffusion([nn.Linear(300, 300, bias=False)])
    storage: Any = next(model.parameters()).untyped_storage()
    storage._comfy_tensor_file_slice = ("file", 0, storage.nbytes())
    model.__dict__["dynamic_vbars"] = {}
    (memory,) = device_memory(sidecar.models(), None, {})
    assert (memory.device, memory.models_bytes) == ("cpu", 0)


def test_what_comfyui_mapped_itself_is_on_disk(sidecar: Attached) -> None:
    """Its loader notes on each storage which part of which file it is."""
    model = Diffusion([nn.Linear(300, 300, bias=False), nn.Linear(300, 300, bias=False)])
    storage: Any = next(model.parameters()).untyped_storage()
    storage._comfy_tensor_file_slice = ("file", 0, storage.nbytes())
    model.__dict__["dynamic_vbars"] = {}
    found = the_model(sidecar)
    assert (dict(found.bytes_by_device), found.offloaded_bytes) == ({"cpu": 360_000}, 360_000)


@pytest.fixture
def patcher_class(monkeypatch: pytest.MonkeyPatch) -> type[Any]:
    """A module of ComfyUI's patchers, imported before the sidecar is attached; gives its class, which is observed."""

    class ModelPatcher:
        def __init__(self, model: nn.Module) -> None:
            self.model = model
            self.patches: dict[str, list[tuple[Any, ...]]] = {}
            self.patches_uuid = object()

        def add_patches(self, patches: dict[str, Any]) -> None:
            self.patches |= {key: [(1.0, patch, 1.0, None, None)] for key, patch in patches.items()}
            self.patches_uuid = object()

    module: Any = ModuleType("comfy.model_patcher")
    module.ModelPatcher = ModelPatcher
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return ModelPatcher


@pytest.mark.parametrize("is_mapped", [True, False])
def test_a_lora_of_such_a_model_is_on_disk_as_long_as_its_file_is_mapped_and_it_is_not_pinned(
    patcher_class: type[Any], sidecar: Attached, tmp_path: Path, is_mapped: bool
) -> None:
    model, vbar = Diffusion([Cast(32), Cast(32)]), ModelVBAR(4)
    staged(model, vbar)
    save_file(
        {f"{layer}.{part}": torch.randn(8, 4096) for layer in (0, 1) for part in ("up", "down")}, tmp_path / "style.safetensors"
    )
    tensors = load_file(tmp_path / "style.safetensors")
    if not is_mapped:
        tensors = {key: tensor.clone() for key, tensor in tensors.items()}
    patcher = patcher_class(model)
    patcher.add_patches(
        {f"diffusion_model.{layer}.weight": ("lora", (tensors[f"{layer}.up"], tensors[f"{layer}.down"])) for layer in (0, 1)}
    )
    del tensors
    size = 4 * 8 * 4096 * 4

    def the_lora() -> tuple[dict[str, int], int, int, bool]:
        (found,) = [one for one in sidecar.models() if one.parent is not None]
        return dict(found.bytes_by_device), found.offloaded_bytes, found.pinned_bytes, found.dynamic_memory

    vbar.bring(0, 1)  # the weights with what was added to them
    assert the_lora() == (({}, size, 0, True) if is_mapped else ({"cpu": size}, size, 0, True))
    first: Any = model.diffusion_model[0]
    first.weight_lowvram_function = SimpleNamespace(_pins={"patches": {"pin": torch.empty(1), "registered": True}})
    held: Any = model
    held.dynamic_pins[GPU]["patches"] = (HostBuffer(size // 2), [], [-1], [size // 2], [0], {})
    if is_mapped:
        assert the_lora() == ({"cpu": size // 2}, size, size // 2, True)
    first.weight_lowvram_function = None
    held.dynamic_pins[GPU]["patches"] = (HostBuffer(), [], [-1], [0], [0], {})
    assert the_lora() == (({}, size, 0, True) if is_mapped else ({"cpu": size}, size, 0, True))
    base = next(one for one in sidecar.models() if one.parent is None)
    assert dict(base.bytes_by_device) == {"cuda:0": 64 * MIB}


def the_device(sidecar: Attached, models: tuple[Model, ...], allocated: int) -> DeviceMemory:
    counters = {"cuda:0": DeviceCounters(allocated, allocated)}
    return next(
        one
        for one in device_memory(models, NonModelBytes(), counters, sidecar.dynamic_memory.outside_torch)
        if one.device == "cuda:0"
    )


def test_pages_are_the_models_and_not_taken_from_other_tensors(sidecar: Attached, monkeypatch: pytest.MonkeyPatch) -> None:
    model, vbar = Diffusion([Cast(32), Cast(40)]), ModelVBAR(8)
    staged(model, vbar)
    vbar.bring(0, 1, 2)
    memory = the_device(sidecar, sidecar.models(), 100 * MIB)
    assert (memory.allocated_bytes, memory.models_bytes) == (100 * MIB, 72 * MIB)
    assert memory.other_bytes == 100 * MIB + 24 * MIB  # the rest of the third page is nobody's
    assert sidecar.dynamic_memory.unfilled_bytes == 24 * MIB
    management: Any = ModuleType("comfy.model_management")
    buffer = SimpleNamespace(_allocated=16 * MIB, device=0)
    management.STREAM_AIMDO_CAST_BUFFERS = {object(): buffer, object(): SimpleNamespace(), object(): None}
    monkeypatch.setitem(__import__("sys").modules, "comfy.model_management", management)
    assert the_device(sidecar, sidecar.models(), 100 * MIB).other_bytes == 140 * MIB
    assert sidecar.dynamic_memory.unfilled_bytes == 40 * MIB


def test_models_that_take_long_to_divide_are_divided_less_often(sidecar: Attached, monkeypatch: pytest.MonkeyPatch) -> None:
    model, vbar, now = Diffusion([Cast(32), Cast(32)]), ModelVBAR(8), [0.0]
    monkeypatch.setattr(sidecar.dynamic_memory, "_clock", lambda: now[0])
    staged(model, vbar)
    monkeypatch.setattr("gpumodels.models.comfy_dynamic_memory.QUICK_SECONDS", 0.0)
    on: list[int] = []
    for seconds, pages in ((0.0, ()), (0.0, (0,)), (60.0, (0,)), (60.0, (0, 1)), (120.0, (0, 1))):
        now[0] = seconds
        vbar.bring(*pages)
        on.append(the_model(sidecar).on_device_bytes // MIB)
    assert on == [0, 0, 32, 32, 64]


def test_an_unchanged_model_stays_the_same_object(sidecar: Attached) -> None:
    model, vbar = Diffusion([Cast(32), Cast(32)]), ModelVBAR(8)
    staged(model, vbar)
    vbar.bring(0)
    before = the_model(sidecar)
    assert the_model(sidecar) is before
    vbar.bring(0, 5)  # not a page of any weight
    assert the_model(sidecar) is before
    vbar.bring(1)
    after = the_model(sidecar)
    assert after is not before
    assert after.tree is not None
    assert before.tree is not None
    assert after.tree.names is before.tree.names
