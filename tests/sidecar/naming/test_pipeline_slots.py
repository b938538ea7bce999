"""Which model stands in which place of which pipeline, with pipelines that are made as diffusers makes them."""

from __future__ import annotations

import gc
import os
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from gpumodels.naming.pipeline_slots import PipelineSlot, PipelineSlots
from gpumodels.support.failures import Failures
from gpumodels_shared.schema import Model
from modules import Attached, Backbone, attached

safetensors = pytest.importorskip("safetensors.torch")
load_file, save_file = safetensors.load_file, safetensors.save_file


def a_file(path: Path, model: nn.Module | None = None) -> Path:
    """A safetensors file of this model's values, or of new ones, written long ago."""
    save_file((model or Backbone()).state_dict(), path)
    os.utime(path, (1e9, 1e9))
    return path


def the_model(sidecar: Attached) -> Model:
    (model,) = sidecar.models()
    return model


@pytest.fixture
def pipelines(monkeypatch: pytest.MonkeyPatch) -> Callable[..., object]:
    """Makes pipelines that say they were loaded from the hub's `org/tiny`."""

    class DiffusionPipeline:
        def __init__(self, **components: object) -> None:
            self.register_modules(**components)

        def register_modules(self, **components: object) -> None:
            self.__dict__.update(components)
            self._internal_dict = {**components, "_name_or_path": "org/tiny"}

    module = ModuleType("diffusers.pipelines.pipeline_utils")
    module.DiffusionPipeline = DiffusionPipeline  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return DiffusionPipeline


def in_the_hub(tmp_path: Path, name: str = "unet/diffusion_pytorch_model.safetensors") -> Path:
    path = tmp_path / "models--org--tiny" / "snapshots" / "r1" / name
    path.parent.mkdir(parents=True)
    return path


def test_a_component_has_its_slot_and_the_name_of_a_pipeline_whose_files_were_read(
    pipelines: Callable[..., object], tmp_path: Path
) -> None:
    with attached() as sidecar:
        load_file(a_file(in_the_hub(tmp_path), nn.Linear(64, 64)))
        with torch.device("meta"):
            pipeline = pipelines(unet=Backbone(), scheduler=object(), tokenizer=None)
        found = the_model(sidecar)
        assert (found.slot, found.kind, found.name, found.name_source) == ("unet", "checkpoint", "org/tiny", "pipeline")
        del pipeline
        gc.collect()
        assert sidecar.pipeline_slots.by_id() == {}
    assert not hasattr(pipelines.register_modules, "__wrapped__")  # type: ignore[attr-defined]


def test_a_component_of_ones_own_has_not_the_name_of_the_pipeline_that_it_is_put_into(
    pipelines: Callable[..., object], tmp_path: Path
) -> None:
    with attached() as sidecar:
        first = pipelines(unet=Backbone())
        found = the_model(sidecar)
        assert (found.slot, found.name, found.confidence) == ("unet", "Backbone", 0.0)  # nothing of it was read
        load_file(a_file(in_the_hub(tmp_path)))
        second = pipelines(unet=Backbone())
        assert {found.name for found in sidecar.models()} == {"Backbone"}  # its file was, and has other values
        del first, second


def test_a_pipeline_that_cannot_be_read_hides_no_other() -> None:
    class Broken:
        def __getattribute__(self, name: str) -> object:
            raise RuntimeError("no")

    class Whole:
        def __init__(self) -> None:
            self._internal_dict = {"vae": None}
            self.vae = object()

    with attached() as sidecar:
        pipelines = PipelineSlots(sidecar.failures)
        broken, whole = Broken(), Whole()
        pipelines.add_all([broken, whole])
        assert [place.slot for place in pipelines.by_id().values()] == ["vae"]
        assert sidecar.failures.count == 0  # none of its code is run


def test_each_component_has_its_own_slot_and_what_is_none_or_private_has_none(pipelines: Callable[..., Any]) -> None:
    with attached() as sidecar:
        unet, vae, scheduler = Backbone(), Backbone(), object()
        pipeline = pipelines(unet=unet, vae=vae, scheduler=scheduler, safety_checker=None, _private=Backbone())
        assert sidecar.pipeline_slots.by_id() == {
            id(unet): PipelineSlot("unet", "org/tiny"),
            id(vae): PipelineSlot("vae", "org/tiny"),
            id(scheduler): PipelineSlot("scheduler", "org/tiny"),
        }
        pipeline.unet = replaced = Backbone()
        assert sidecar.pipeline_slots.by_id()[id(replaced)].slot == "unet"
        assert id(unet) not in sidecar.pipeline_slots.by_id()


def test_pipelines_that_were_there_before_are_found_by_the_sweep(pipelines: Callable[..., Any]) -> None:
    unet = Backbone()
    pipeline = pipelines(unet=unet)
    with attached() as sidecar:
        assert sidecar.pipeline_slots.by_id() == {}
        sidecar.hooks.sweep()
        assert sidecar.pipeline_slots.by_id() == {id(unet): PipelineSlot("unet", "org/tiny")}
        assert pipeline is not None


def test_a_pipeline_is_not_kept_alive_and_one_of_another_shape_says_nothing() -> None:
    class Loaded:
        def __init__(self, stated: object) -> None:
            self._internal_dict = stated
            self.unet = Backbone()

    slots = PipelineSlots(Failures())
    local, nameless, odd = Loaded({"unet": 1, "_name_or_path": 5}), Loaded({"unet": 1}), Loaded(["unet"])
    slots.add_all([local, nameless, odd])
    assert slots.by_id() == {id(local.unet): PipelineSlot("unet", None), id(nameless.unet): PipelineSlot("unet", None)}
    watched = weakref.ref(local)
    del local
    assert watched() is None
    assert len(slots.by_id()) == 1


def test_without_diffusers_there_are_no_classes_of_pipelines() -> None:
    assert PipelineSlots(Failures()).types() == set()
