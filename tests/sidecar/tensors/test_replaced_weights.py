"""Weights that ComfyUI's patchers keep beside a model count with it, whether the model refers to its patcher or not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from modules import Attached, attached

WIDTH = 256
WEIGHT_BYTES = WIDTH * WIDTH * 4


class Dimension(NamedTuple):
    """What ComfyUI's backup has for a weight."""

    weight: torch.Tensor
    inplace_update: bool


class Patched(nn.Module):
    """What a patcher calls its model."""

    def __init__(self) -> None:
        super().__init__()
        self.diffusion_model = nn.Sequential(nn.Linear(WIDTH, WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False))
        self.current_patcher: Any = None


@pytest.fixture(params=["ModelPatcher", "ModelPatcherDynamic"])
def patcher_class(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[Any]:
    """A module of ComfyUI's patchers, imported before the sidecar is attached; gives the class of this name."""

    class ModelPatcher:
        def __init__(self, model: nn.Module) -> None:
            self.model = model
            self.patches: dict[str, Any] = {}
            self.backup: dict[str, Dimension] = {}
            self.hook_backup: dict[str, tuple[torch.Tensor, torch.device]] = {}

        def clone(self) -> ModelPatcher:
            other = type(self)(self.model)
            other.backup = self.backup
            return other

    ModelPatcher.__module__ = "comfy.model_patcher"
    module: Any = ModuleType("comfy.model_patcher")
    module.ModelPatcher = ModelPatcher
    monkeypatch.setitem(sys.modules, module.__name__, module)
    if request.param == "ModelPatcher":
        return ModelPatcher
    return type("ModelPatcherDynamic", (ModelPatcher,), {"__module__": "comfy.model_patcher"})


@pytest.fixture
def sidecar(patcher_class: type[Any]) -> Iterator[Attached]:
    """Attached once there is such a class."""
    with attached() as parts:
        yield parts
        assert parts.failures.count == 0


def held(sidecar: Attached) -> int:
    """Bytes of the only model, as it is once what no event tells has been seen."""
    sidecar.models()
    (found,) = sidecar.models()
    return found.resident_bytes


def test_replaced_weights_count_until_they_are_back_in_their_place(patcher_class: type[Any], sidecar: Attached) -> None:
    kept = WEIGHT_BYTES if patcher_class.__name__ == "ModelPatcher" else 0
    model = Patched()
    patcher = patcher_class(model)
    layer: Any = model.diffusion_model[0]
    assert held(sidecar) == 2 * WEIGHT_BYTES
    patcher.backup["diffusion_model.0.weight"] = Dimension(layer.weight.detach(), False)
    layer.weight = nn.Parameter(layer.weight.detach() + 1, requires_grad=False)
    assert held(sidecar) == 2 * WEIGHT_BYTES + kept
    model.current_patcher = patcher  # while it samples
    clone = patcher.clone()
    assert held(sidecar) == 2 * WEIGHT_BYTES + kept
    model.current_patcher = None
    del patcher
    assert held(sidecar) == 2 * WEIGHT_BYTES + kept
    clone.hook_backup["diffusion_model.1.weight"] = torch.zeros(WIDTH, WIDTH), torch.device("cpu")
    assert held(sidecar) == 2 * WEIGHT_BYTES + 2 * kept
    clone.hook_backup.clear()
    clone.backup.clear()
    assert held(sidecar) == 2 * WEIGHT_BYTES


def test_what_a_patcher_keeps_of_one_model_does_not_count_with_another(patcher_class: type[Any], sidecar: Attached) -> None:
    model, other = Patched(), nn.Sequential(nn.Linear(WIDTH, WIDTH, bias=False))
    patcher = patcher_class(model)
    patcher.backup["diffusion_model.0.weight"] = Dimension(torch.zeros(WIDTH, WIDTH), False)
    sidecar.models()
    patcher.model = other
    sidecar.models()
    kept = WEIGHT_BYTES if patcher_class.__name__ == "ModelPatcher" else 0
    assert sorted(one.resident_bytes for one in sidecar.models()) == [WEIGHT_BYTES + kept, 2 * WEIGHT_BYTES]
    del patcher
    sidecar.models()
    assert sorted(one.resident_bytes for one in sidecar.models()) == [WEIGHT_BYTES, 2 * WEIGHT_BYTES]
