from __future__ import annotations

import gc
import importlib
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.modules.module import _global_module_registration_hooks

import comfy_executor
from dynamic_vram import MIB, Cast, Diffusion, ModelVBAR, staged
from gpumodels.hooks import torch_hooks
from gpumodels.models.allocators import DeviceCounters, TorchDevices
from gpumodels.models.training_state import TrainingState
from gpumodels.observer import NOT_ATTACHED, Observer
from gpumodels.observing.observers import Observers
from gpumodels.observing.reachable_objects import HOST_CODE, Root
from gpumodels.support.failures import Failures
from modules import Backbone, a_fake, distinct_bytes, frozen

GIB = 1024**3


class Counted:
    """An allocator whose counters the test sets."""

    def __init__(self) -> None:
        self.allocated_bytes = 0

    def counters(self, in_use: Collection[str] = ()) -> Mapping[str, DeviceCounters]:
        return {"cuda:0": DeviceCounters(self.allocated_bytes, self.allocated_bytes, simulated=True)}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Watched:
    """An observer on fake devices and a fake clock."""

    def __init__(self) -> None:
        self.devices = Counted()
        self.clock = Clock()
        self.failures = Failures()
        self.observer = Observer(self.devices, lambda: None, lambda: None, self.failures, self.clock)

    def update(self, after_seconds: float = 1.0) -> list[str]:
        """Class names of the models on the fake GPU, after so many seconds."""
        self.clock.now += after_seconds
        self.observer.update()
        self.observer.find_names()
        return [model.class_name for model in self.observer.models if "cuda:0" in model.bytes_by_device]


@pytest.fixture
def watched() -> Iterator[Watched]:
    watched = Watched()
    watched.observer.attach_when_possible()
    try:
        yield watched
    finally:
        watched.observer.detach()


def on_gpu(module: nn.Module) -> nn.Module:
    for one in module.modules():
        for name, parameter in list(one._parameters.items()):
            if parameter is not None:
                setattr(one, name, nn.Parameter(a_fake(tuple(parameter.shape), "cuda:0"), requires_grad=False))
    return module


class Silent(Backbone):
    """A module that is made without any registration, as by unpickling."""

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)


def test_memory_that_the_allocator_counts_is_divided_by_use(watched: Watched) -> None:
    model = on_gpu(Backbone())
    watched.devices.allocated_bytes = distinct_bytes(model) + 5000
    assert "Backbone" in watched.update()
    (memory,) = (device for device in watched.observer.devices if device.device == "cuda:0")
    assert (memory.models_bytes, memory.other_bytes) == (distinct_bytes(model), 5000)
    assert watched.failures.count == 0


def test_pages_that_come_and_go_are_published_at_the_next_tick(watched: Watched) -> None:
    watched.devices.allocated_bytes = 1000
    model, vbar = Diffusion([Cast(32), Cast(16)]), ModelVBAR(16)
    staged(model, vbar)
    watched.update()
    for pages, on, other in (((0, 1), 48 * MIB, 16 * MIB), ((1,), 16 * MIB, 16 * MIB), ((0, 1, 5), 48 * MIB, 48 * MIB)):
        vbar.bring(*pages)
        watched.update()
        found = next(one for one in watched.observer.models if one.dynamic_memory)
        memory = next(device for device in watched.observer.devices if device.device == "cuda:0")
        assert (found.on_device_bytes, memory.models_bytes) == (on, on)
        assert (memory.allocated_bytes, memory.other_bytes) == (1000, other + 1000)
    del model
    watched.update()
    assert not any(one.dynamic_memory for one in watched.observer.models)
    assert watched.failures.count == 0


def test_the_rest_of_pages_is_no_reason_to_search_for_models(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    watched.devices.allocated_bytes = 1000
    model, vbar = Diffusion([Cast(32)]), ModelVBAR(32)
    staged(model, vbar)
    vbar.bring(*range(32))
    watched.update()
    sweeps: list[object] = []
    monkeypatch.setattr(watched.observer, "_sweep", sweeps.append)
    watched.clock.now += 61
    attached = watched.observer._attached
    assert attached is not None
    watched.observer._sweep_if_unexplained(attached)
    assert sweeps == []
    assert attached.dynamic_memory.unfilled_bytes == 31 * 32 * MIB
    del model


def test_unexplained_memory_makes_it_sweep_for_unregistered_modules(watched: Watched) -> None:
    watched.update()
    hidden = Silent.__new__(Silent)
    hidden.__setstate__(on_gpu(Backbone()).__dict__)
    watched.devices.allocated_bytes = 10 * GIB
    assert "Silent" not in watched.update()
    assert "Silent" not in watched.update(after_seconds=61)  # the sweep is made at the end of this
    assert "Silent" in watched.update()


def test_frozen_models_are_found_by_and_by_however_late_and_once_they_are_unfrozen(monkeypatch: pytest.MonkeyPatch) -> None:
    app: dict[str, nn.Module] = {}
    monkeypatch.setattr(torch_hooks, "roots_of_process", lambda: [Root(HOST_CODE, lambda: [app])])
    first, second, third = on_gpu(Backbone()), on_gpu(Backbone(2)), on_gpu(Backbone(1))
    app["first"] = first
    watched = Watched()
    with frozen():
        watched.observer.attach_when_possible()
        try:
            assert len(watched.update()) + len(watched.update()) == 1
            app["second"] = second  # it wasn't reachable before
            assert len(watched.update()) == 1
            watched.update(after_seconds=61)
            assert len(watched.update()) == 2
            gc.unfreeze()
            watched.update(after_seconds=61)
            assert len(watched.update()) == 3
        finally:
            watched.observer.detach()
    assert third is not None
    assert watched.failures.count == 0


def test_changes_without_notice_in_a_small_host_are_found_by_the_next_scan(watched: Watched) -> None:
    model = Backbone()
    watched.update()
    before = watched.observer.models
    model.blocks[0].get_submodule("q").weight.data = torch.zeros(1)
    watched.update()
    assert watched.observer.models != before


def test_what_is_loaded_into_a_known_model_is_named_even_where_the_savings_are_spent(watched: Watched, tmp_path: Path) -> None:
    save_file(Backbone().state_dict(), tmp_path / "chosen.safetensors")
    model = Backbone()
    watched.update()
    watched.observer.budget.spend(0.4)
    model.load_state_dict(load_file(tmp_path / "chosen.safetensors"))
    watched.update(0.1)
    assert "chosen" in {found.name for found in watched.observer.models}


def test_an_unloaded_model_is_gone_after_the_next_update_even_where_the_budget_is_spent(watched: Watched) -> None:
    model = on_gpu(Backbone())
    assert "Backbone" in watched.update()
    watched.observer.budget.spend(100)
    del model
    assert "Backbone" not in watched.update()


def test_a_change_of_allocated_bytes_makes_it_scan(watched: Watched) -> None:
    model = nn.Linear(512, 512, bias=False)
    model.weight = nn.Parameter(a_fake((512, 512), "cuda:0"), requires_grad=False)
    watched.update()
    model.weight.data = a_fake((2048, 512), "cuda:0")
    watched.devices.allocated_bytes = 100 * 1024**2
    watched.update()
    (found,) = (one for one in watched.observer.models if one.class_name == "Linear" and "cuda:0" in one.bytes_by_device)
    assert found.bytes_by_device == {"cuda:0": 2048 * 512 * 2}


def test_a_new_model_is_shown_even_where_the_savings_are_spent(watched: Watched) -> None:
    watched.update()
    watched.observer.budget.spend(0.4)
    model = on_gpu(Backbone())
    assert "Backbone" in watched.update()
    assert model is not None


def test_an_attach_that_fails_half_way_leaves_nothing_behind_and_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[int] = []

    def fails(_self: TrainingState, _observers: Observers) -> None:
        tries.append(1)
        raise RuntimeError("no such constructor here")

    monkeypatch.setattr(TrainingState, "observe", fails)
    code, hooks = torch.load.__code__, len(_global_module_registration_hooks)
    observer = Observer(TorchDevices(torch), lambda: None, lambda: None, Failures())
    observer.attach_when_possible()
    for _ in range(3):
        observer.update()
        observer.find_names()
    assert (len(tries), observer._failures.count) == (1, 1)
    assert torch.load.__code__ is code
    assert len(_global_module_registration_hooks) == hooks
    assert observer.models == ()
    assert observer.warnings == (NOT_ATTACHED,)
    observer.detach()


def test_with_notified_changes_only_a_new_model_is_shown_and_nothing_is_searched_or_measured(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = on_gpu(Backbone())
    assert watched.update() == ["Backbone"]
    measured: list[object] = []
    monkeypatch.setattr(TrainingState, "measure", lambda *arguments: measured.append(arguments))
    assert not watched.observer.was_notified()
    model._parameters.clear()  # notifies of nothing
    second = on_gpu(Backbone())
    assert watched.observer.was_notified()
    watched.clock.now += 3600.0
    watched.observer.update(only_notified=True)
    assert [model.class_name for model in watched.observer.models] == ["Backbone", "Backbone"]
    assert not watched.observer.was_notified()
    assert measured == []
    del second


@pytest.fixture
def importing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder from which modules are imported; afterwards they are not imported any more."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def test_comfyuis_nodes_are_stages_with_their_files_and_what_they_did_to_memory(
    watched: Watched, importing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(comfy_executor.__file__, importing / "execution.py")
    (importing / "folder_paths.py").write_text(f"folder_names_and_paths = {{'unet': ([{str(importing)!r}], set())}}")
    save_file({"weight": torch.rand(2)}, importing / "one.safetensors")
    models: list[nn.Module] = []

    def loads(**_inputs: object) -> int:
        models.append(Backbone())
        return 1

    watched.update()
    importlib.import_module("folder_paths")
    executor = importlib.import_module("execution").PromptExecutor()
    (before,) = [device.models_bytes for device in watched.observer.devices if device.device == "cpu"] or [0]
    executor.execute({"4": {"class_type": "UNETLoader", "function": loads, "inputs": {"unet_name": "one.safetensors"}}}, "1")
    watched.update()
    (stage,) = watched.observer.stages
    assert (stage.id, stage.name, stage.device, stage.files) == ("4", "UNETLoader", "cpu", (str(importing / "one.safetensors"),))
    assert stage.bytes_before == before
    assert (stage.bytes_after or 0) - before == distinct_bytes(*models)
    managers = [watched.observer.model_manager]
    monkeypatch.setitem(sys.modules, "comfy.model_management", comfys_manager())
    watched.update()
    assert [*managers, watched.observer.model_manager] == [None, "ComfyUI"]


def comfys_manager() -> ModuleType:
    """A stand-in for ComfyUI's, which has loaded nothing."""
    module = ModuleType("comfy.model_management")
    module.current_loaded_models = []  # type: ignore[attr-defined]
    return module
