"""What ComfyUI's model manager knows. Uses stand-ins with the names of ComfyUI's, of several versions."""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from types import FunctionType, ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from gpumodels.models.comfy_manager import ComfyManager
from gpumodels.support.accelerator_memory import PagedMemory
from gpumodels.support.failures import Failures
from gpumodels_shared.schema import SMALL_MODEL_BYTES
from modules import Attached, a_fake, attached

WIDTH = 256
SIZE = WIDTH * WIDTH * 4


class ModelPatcher:
    """Stands in for ComfyUI's."""

    def __init__(self, model: nn.Module, load_device: str = "cuda:0") -> None:
        self.model = model
        self.load_device = load_device
        self.parent: ModelPatcher | None = None
        self.patches: dict[str, object] = {}

    def clone(self) -> ModelPatcher:
        other = type(self)(self.model, self.load_device)
        other.parent = self
        return other


class LoadedModel:
    """Stands in for ComfyUI's: it holds its patcher weakly."""

    def __init__(self, patcher: ModelPatcher) -> None:
        self._model = weakref.ref(patcher)
        self._parent_model = weakref.ref(patcher.parent) if patcher.parent is not None else None
        self.real_model: object = weakref.ref(patcher.model)
        self.device = torch.device(patcher.load_device)


class LoadedModelOf030:
    """Of version 0.3.0: it holds its patcher."""

    def __init__(self, patcher: ModelPatcher) -> None:
        self.model = patcher
        self.device = torch.device(patcher.load_device)
        self.real_model = None


class Backbone(nn.Module):
    """A diffusion backbone in what ComfyUI makes around it."""

    def __init__(self, device: str = "cpu") -> None:
        super().__init__()
        self.diffusion_model = a_network(device)


def a_network(device: str = "cpu") -> nn.Module:
    """A model of SIZE bytes."""
    network = nn.Linear(WIDTH, WIDTH, bias=False)
    if device != "cpu":
        network.weight = nn.Parameter(a_fake((WIDTH, WIDTH), device, torch.float32))
    return network


@pytest.fixture
def management(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A stand-in for ComfyUI's modules of patchers and of models in memory, imported."""
    patchers = ModuleType("comfy.model_patcher")
    patchers.ModelPatcher = ModelPatcher  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, patchers.__name__, patchers)
    module: Any = ModuleType("comfy.model_management")
    module.current_loaded_models = []
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


@pytest.fixture
def sidecar(management: Any) -> Iterator[Attached]:
    with attached() as one:
        yield one
        assert one.failures.count == 0


def managed(sidecar: Attached) -> list[tuple[str | None, int | None]]:
    return [(model.managed_by, model.managed_bytes) for model in sidecar.models()]


def test_without_comfyui_nobody_manages_models() -> None:
    with attached() as sidecar:
        network = a_network()
        assert (managed(sidecar), sidecar.comfy_manager.name) == ([(None, None)], None)
    assert network.training


@pytest.mark.parametrize("loaded_model", [LoadedModel, LoadedModelOf030])
def test_a_loaded_model_is_the_managers_with_the_bytes_that_it_believes_in(
    sidecar: Attached, management: Any, loaded_model: Callable[[ModelPatcher], object]
) -> None:
    patcher = ModelPatcher(a_network("cuda:0"))
    patcher.model.model_loaded_weight_memory = SIZE // 2  # type: ignore[assignment]
    management.current_loaded_models.append(loaded_model(patcher))
    assert managed(sidecar) == [("ComfyUI", SIZE // 2)]
    assert sidecar.comfy_manager.name == "ComfyUI"


def test_a_missing_attribute_loses_the_bytes_but_not_the_manager(sidecar: Attached, management: Any) -> None:
    patcher = ModelPatcher(a_network("cuda:0"))
    management.current_loaded_models += [LoadedModel(patcher), object(), None]
    assert managed(sidecar) == [("ComfyUI", None)]


def test_a_model_on_a_device_that_the_manager_did_not_load_is_not_the_managers(sidecar: Attached, management: Any) -> None:
    held = a_network("cuda:0")
    assert managed(sidecar) == [(None, None)]
    patcher = ModelPatcher(held)  # as WanVideoWrapper makes one, and moves the model itself
    assert managed(sidecar) == [(None, None)]
    management.current_loaded_models.append(LoadedModel(patcher))
    assert managed(sidecar) == [("ComfyUI", None)]


def test_a_patched_model_in_host_memory_waits_to_be_loaded_by_the_manager(sidecar: Attached) -> None:
    patcher = ModelPatcher(a_network())
    assert managed(sidecar) == [("ComfyUI", 0)]
    assert patcher.parent is None


def test_a_model_that_is_being_loaded_is_the_managers_already(sidecar: Attached, management: Any) -> None:
    patcher = ModelPatcher(a_network("cuda:0"))
    began, may_end = threading.Event(), threading.Event()

    def load_models_gpu() -> None:
        began.set()
        may_end.wait(5)

    load: Any = FunctionType(load_models_gpu.__code__, {**globals(), "__name__": management.__name__}, None, None,
                                      load_models_gpu.__closure__)  # fmt: skip
    thread = threading.Thread(target=load)
    thread.start()
    began.wait(5)
    during = managed(sidecar)
    may_end.set()
    thread.join()
    assert (during, managed(sidecar)) == ([("ComfyUI", 0)], [(None, None)])
    assert patcher.parent is None


def test_clones_switches_and_unloading_keep_one_row(sidecar: Attached, management: Any) -> None:
    """As ComfyUI does for prompts in turn, cached ones, and `/free`."""
    first, second = ModelPatcher(a_network()), ModelPatcher(a_network())
    known = {model.id for model in sidecar.models()}
    assert len(known) == 2
    for patcher in (first, second, first):
        clone = patcher.clone()
        management.current_loaded_models[:] = [LoadedModel(clone)]
        assert {model.id for model in sidecar.models()} == known
        assert managed(sidecar) == [("ComfyUI", None), ("ComfyUI", 0)] or managed(sidecar) == [("ComfyUI", 0), ("ComfyUI", None)]
        del clone  # its `LoadedModel` goes over to the parent
        assert {model.managed_by for model in sidecar.models()} == {"ComfyUI"}
    management.current_loaded_models.clear()
    assert managed(sidecar) == [("ComfyUI", 0)] * 2
    del first, patcher
    assert managed(sidecar) == [("ComfyUI", 0)]
    assert second.parent is None


def test_a_patcher_that_died_leaves_the_module_that_is_loaded(sidecar: Attached, management: Any) -> None:
    network = a_network("cuda:0")
    management.current_loaded_models.append(LoadedModel(ModelPatcher(network)))
    assert managed(sidecar) == [("ComfyUI", None)]


def test_a_part_of_a_patched_model_is_the_managers(sidecar: Attached, management: Any) -> None:
    patcher = ModelPatcher(Backbone("cuda:0"))
    management.current_loaded_models.append(LoadedModel(patcher))
    assert [entry[0] for entry in managed(sidecar)] == ["ComfyUI"]


def test_a_model_of_which_a_part_is_patched_is_not_said_to_be_unmanaged(sidecar: Attached, management: Any) -> None:
    whole = Backbone("cuda:0")
    patcher = ModelPatcher(whole.diffusion_model)
    management.current_loaded_models.append(LoadedModel(patcher))
    assert {entry[0] for entry in managed(sidecar)} == {"ComfyUI"}


class Vbar:
    """Pages of a device, as comfy-aimdo has them."""

    def __init__(self, size: object, ptr: int = 1) -> None:
        self._size, self._ptr = size, ptr

    def loaded_size(self) -> object:
        if self._size is None:
            raise RuntimeError("it was freed")
        return self._size


def paged(*tables: dict[object, object]) -> PagedMemory | None:
    """What is paged onto cuda:0 by models with these tables."""
    patchers = []
    for table in tables:
        patchers.append(ModelPatcher(nn.Module()))
        patchers[-1].model.dynamic_vbars = table  # type: ignore[assignment]
    refs: Any = [weakref.ref(patcher) for patcher in patchers]
    return ComfyManager(lambda: refs, Failures()).paged_memory("cuda:0")


def test_pages_are_summed_up_over_the_models_of_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    here, there, one = torch.device("cuda:0"), torch.device("cuda:1"), Vbar(5)
    assert paged() is None
    assert paged({there: one}) is None
    assert paged({here: one}, {here: one, there: Vbar(9)}, {here: Vbar(7)}, {here: Vbar(100, ptr=0)}) == PagedMemory(12)
    assert paged({here: Vbar(None)}) == PagedMemory(None)
    control = ModuleType("comfy_aimdo.control")
    control.lib = None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, control.__name__, control)
    assert paged({here: one}) == PagedMemory(None)


assert SIZE > SMALL_MODEL_BYTES
