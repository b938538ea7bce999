"""ComfyUI's LoRAs: tensors in patches of a ModelPatcher. Uses a stand-in patcher with ComfyUI's names."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from gpumodels_shared.schema import Model
from modules import Attached, attached

WIDTH = 256
LORA_BYTES = 2 * 2 * 8 * WIDTH * 4


class LoRAAdapter:
    """What ComfyUI makes of a LoRA's tensors for one weight."""

    def __init__(self, *weights: object) -> None:
        self.weights = weights


class Diffusion(nn.Module):
    """A diffusion backbone with two weights."""

    def __init__(self) -> None:
        super().__init__()
        self.diffusion_model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH))


class Encoders(nn.Module):
    """A pair of text encoders."""

    def __init__(self) -> None:
        super().__init__()
        self.clip_l = nn.Linear(WIDTH, WIDTH)
        self.clip_g = nn.Linear(WIDTH, WIDTH)


def a_patcher_class() -> type[Any]:
    """A new stand-in for ComfyUI's class, since its methods are observed."""

    class ModelPatcher:
        def __init__(self, model: nn.Module) -> None:
            self.model = model
            self.patches: dict[str, list[tuple[object, ...]]] = {}
            self.hook_patches: dict[object, dict[str, list[tuple[object, ...]]]] = {}
            self.patches_uuid: object = object()
            self.parent: ModelPatcher | None = None

        def clone(self) -> ModelPatcher:
            other = type(self)(self.model)
            other.parent = self
            other.patches = {key: list(patches) for key, patches in self.patches.items()}
            other.patches_uuid = self.patches_uuid
            return other

        def add_patches(self, patches: dict[str, object], strength: float = 1.0) -> list[str]:
            for key, patch in patches.items():
                self.patches.setdefault(key, []).append((strength, patch, 1.0, None, None))
            self.patches_uuid = object()
            return list(patches)

    return ModelPatcher


@pytest.fixture
def patcher_class(monkeypatch: pytest.MonkeyPatch) -> type[Any]:
    """A stand-in for ComfyUI's module of patchers, imported; gives its class."""
    module = ModuleType("comfy.model_patcher")
    module.ModelPatcher = a_patcher_class()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module.ModelPatcher  # type: ignore[no-any-return]


@pytest.fixture
def sidecar() -> Iterator[Attached]:
    """A sidecar that is attached before anything is made, other than by fixtures before it."""
    with attached() as one:
        yield one


def a_lora(path: Path, prefix: str = "diffusion_model.", layers: tuple[str, ...] = ("0", "1")) -> dict[str, object]:
    """Patches by weight's key, loaded from a LoRA file."""
    tensors = {}
    for layer in layers:
        tensors[f"{layer}.up"] = torch.randn(WIDTH, 8)
        tensors[f"{layer}.down"] = torch.randn(8, WIDTH)
    save_file(tensors, path)
    loaded = load_file(path)
    return {f"{prefix}{layer}.weight": LoRAAdapter(loaded[f"{layer}.up"], loaded[f"{layer}.down"], 8.0, None) for layer in layers}


@pytest.fixture
def comfy_utils(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """ComfyUI's reader with `--disable-mmap`, which copies every tensor out of the mapped file."""

    def load_torch_file(ckpt: str, return_metadata: bool = False) -> object:
        tensors = {key: tensor.to(copy=True) for key, tensor in load_file(ckpt).items()}
        return (tensors, None) if return_metadata else tensors

    module = ModuleType("comfy.utils")
    module.load_torch_file = load_torch_file  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def loras(sidecar: Attached) -> dict[str, Model]:
    """The published LoRAs by name."""
    return {model.name: model for model in sidecar.models() if model.kind == "lora"}


def the_base(sidecar: Attached) -> Model:
    """The only published model that is no LoRA."""
    (found,) = [model for model in sidecar.models() if model.kind != "lora"]
    return found


def test_a_lora_of_comfyui_is_an_adapter_named_by_its_file(patcher_class: type[Any], sidecar: Attached, tmp_path: Path) -> None:
    patcher = patcher_class(Diffusion())
    patcher.add_patches(a_lora(tmp_path / "MyStyle_v2.safetensors"))
    (lora,) = loras(sidecar).values()
    base = the_base(sidecar)
    assert (lora.name, lora.name_source, lora.confidence) == ("MyStyle_v2", "mapped file", 0.99)
    assert lora.files == (str(tmp_path / "MyStyle_v2.safetensors"),)
    assert lora.bytes_by_device == {"cpu": LORA_BYTES}
    assert lora.parameters == LORA_BYTES // 4
    assert (lora.parent, base.adapters) == (base.id, (lora.id,))
    assert base.bytes_by_device == {"cpu": 2 * (WIDTH * WIDTH + WIDTH) * 4}
    assert lora.tree is not None
    assert lora.tree.names == ("", "diffusion_model.0.weight", "diffusion_model.1.weight")


def test_loras_that_comfyui_copied_out_of_their_files_are_named_by_them(
    comfy_utils: ModuleType, patcher_class: type[Any], sidecar: Attached, tmp_path: Path
) -> None:
    patcher = patcher_class(Diffusion())
    for name in ("first", "second"):
        a_lora(tmp_path / f"{name}.safetensors")
        loaded = comfy_utils.load_torch_file(str(tmp_path / f"{name}.safetensors"))
        patcher.add_patches({"diffusion_model.0.weight": LoRAAdapter(loaded["0.up"], loaded["0.down"])})
    found = loras(sidecar)
    assert {name: (lora.name_source, lora.confidence) for name, lora in found.items()} == {
        "first": ("read file", 0.95),
        "second": ("read file", 0.95),
    }


def test_a_file_that_comfyui_reads_and_maps_is_still_known_by_the_mapping(
    comfy_utils: ModuleType, patcher_class: type[Any], tmp_path: Path
) -> None:
    comfy_utils.load_torch_file = lambda ckpt: (load_file(ckpt), {})  # type: ignore[attr-defined]
    original = comfy_utils.load_torch_file
    save_file({"0.weight": torch.randn(WIDTH, WIDTH)}, tmp_path / "mapped.safetensors")
    with attached() as sidecar:
        loaded, _ = comfy_utils.load_torch_file(tmp_path / "mapped.safetensors")
        patcher = patcher_class(Diffusion())
        patcher.add_patches({"diffusion_model.0.weight": ("diff", (loaded["0.weight"],))})
        assert loras(sidecar)["mapped"].name_source == "mapped file"
    assert comfy_utils.load_torch_file is original


def test_patchers_that_were_there_before_are_found(patcher_class: type[Any], tmp_path: Path) -> None:
    patcher = patcher_class(Diffusion())
    patcher.add_patches(a_lora(tmp_path / "early.safetensors"))
    with attached() as sidecar:
        sidecar.hooks.sweep()
        assert "early" in loras(sidecar)


def test_clones_and_copies_of_patches_count_once(patcher_class: type[Any], sidecar: Attached, tmp_path: Path) -> None:
    first = patcher_class(Diffusion())
    first.add_patches(a_lora(tmp_path / "one.safetensors"))
    second = first.clone()
    second.add_patches(a_lora(tmp_path / "two.safetensors", layers=("1",)))
    third = second.clone()
    assert {name: model.bytes_by_device["cpu"] for name, model in loras(sidecar).items()} == {
        "one": LORA_BYTES,
        "two": LORA_BYTES // 2,
    }
    del first, second
    gc.collect()
    assert set(loras(sidecar)) == {"one", "two"}
    del third
    gc.collect()
    assert loras(sidecar) == {}


def test_nothing_is_read_again_while_nothing_changes(patcher_class: type[Any], sidecar: Attached, tmp_path: Path) -> None:
    patcher = patcher_class(Diffusion())
    patcher.add_patches(a_lora(tmp_path / "one.safetensors"))
    before = sidecar.scan()
    assert all(one is other for one, other in zip(before, sidecar.scan(), strict=True))
    patcher.add_patches(a_lora(tmp_path / "two.safetensors"))
    assert len(sidecar.scan()) == len(before) + 1


def test_new_patches_ask_for_a_scan(patcher_class: type[Any], sidecar: Attached, tmp_path: Path) -> None:
    patcher = patcher_class(Diffusion())
    version = sidecar.registry.version
    patcher.add_patches(a_lora(tmp_path / "one.safetensors"))
    assert sidecar.registry.version > version
    version = sidecar.registry.version
    del patcher
    gc.collect()
    assert sidecar.registry.version > version


def test_one_file_for_both_text_encoders_adapts_each(patcher_class: type[Any], sidecar: Attached, tmp_path: Path) -> None:
    encoders = Encoders()
    patcher = patcher_class(encoders)
    patcher.add_patches(a_lora(tmp_path / "MyStyle.safetensors", "", ("clip_l", "clip_g")))
    found = sidecar.models()
    bases = [model for model in found if model.kind != "lora"]
    adapters = [model for model in found if model.kind == "lora"]
    assert {adapter.name for adapter in adapters} == {"MyStyle"}
    assert {adapter.parent for adapter in adapters} == {base.id for base in bases}
    assert sum(adapter.bytes_by_device["cpu"] for adapter in adapters) == LORA_BYTES


def test_one_lora_on_two_models_counts_once_and_has_its_name_on_both(
    patcher_class: type[Any], sidecar: Attached, tmp_path: Path
) -> None:
    patches = a_lora(tmp_path / "both.safetensors")
    patchers = [patcher_class(Diffusion()), patcher_class(Diffusion())]
    for patcher in patchers:
        patcher.add_patches(patches)
    adapters = [model for model in sidecar.models() if model.kind == "lora"]
    assert [adapter.name for adapter in adapters] == ["both", "both"]
    assert sorted(sum(adapter.bytes_by_device.values()) for adapter in adapters) == [0, LORA_BYTES]
    assert len({adapter.parent for adapter in adapters}) == 2


def test_a_lora_from_nowhere_is_not_named_by_guess(patcher_class: type[Any], sidecar: Attached) -> None:
    patcher = patcher_class(Diffusion())
    patcher.add_patches({"diffusion_model.0.weight": ("diff", (torch.randn(WIDTH, WIDTH),))})
    (lora,) = loras(sidecar).values()
    assert (lora.name, lora.confidence, lora.files) == ("LoRA", 0.0, ())


def test_patches_of_hooks_are_seen_too(patcher_class: type[Any], sidecar: Attached, tmp_path: Path) -> None:
    patcher = patcher_class(Diffusion())
    entries = a_lora(tmp_path / "hooked.safetensors")
    patcher.hook_patches[object()] = {key: [(1.0, patch, 1.0, None, None)] for key, patch in entries.items()}
    assert set(loras(sidecar)) == {"hooked"}


def test_a_merge_of_models_is_no_lora(patcher_class: type[Any], sidecar: Attached) -> None:
    one, other = Diffusion(), Diffusion()
    patcher = patcher_class(one)
    weight = other.diffusion_model[0].weight
    patcher.add_patches({"diffusion_model.0.weight": [(weight, None)], "diffusion_model.1.weight": ("diff", (weight,))})
    assert loras(sidecar) == {}


def saved_diffusion(path: Path) -> Diffusion:
    """A model that was loaded from this file."""
    model = Diffusion()
    save_file(model.state_dict(), path, {"modelspec.title": "Base"})
    os.utime(path, (1e9, 1e9))
    model.load_state_dict(load_file(path))
    return model


def the_models(sidecar: Attached) -> tuple[Model, Model]:
    """The base model, and its only LoRA."""
    (lora,) = loras(sidecar).values()
    return the_base(sidecar), lora


@pytest.mark.parametrize("held", ["all", "one", "all, by names that say nothing"])
def test_a_lora_whose_tensors_the_layers_hold_as_well_is_an_adapter_all_the_same(
    patcher_class: type[Any], sidecar: Attached, tmp_path: Path, held: str
) -> None:
    """WanVideoWrapper's unmerged LoRAs: where the dtype is the compute dtype, the buffers are the patch's own tensors."""
    base = saved_diffusion(tmp_path / "base_v1.safetensors")
    patcher = patcher_class(base)
    patcher.add_patches(a_lora(tmp_path / "MyStyle.safetensors"))
    name = "weight_{}" if "names" in held else "lora_diff_0_{}"
    count = 0
    for number, layer in enumerate([*base.diffusion_model][: 1 if held == "one" else 2]):
        (_, adapter, *_), *_ = patcher.patches[f"diffusion_model.{number}.weight"]
        for place, tensor in enumerate(adapter.weights[: 1 if held == "one" else 2]):
            layer.register_buffer(name.format(place), tensor)
            count += tensor.nbytes
    before = [id(one) for one in sidecar.scan()]
    model, lora = the_models(sidecar)
    assert (lora.name, lora.parent, lora.files) == ("MyStyle", model.id, (str(tmp_path / "MyStyle.safetensors"),))
    assert (lora.resident_bytes, lora.shared_bytes) == (LORA_BYTES - count, count)
    assert model.resident_bytes == 2 * (WIDTH * WIDTH + WIDTH) * 4 + count
    assert (model.name, model.files) == ("base_v1", (str(tmp_path / "base_v1.safetensors"),))
    assert dict(model.metadata) == {"modelspec.title": "Base"}
    assert before == [id(one) for one in sidecar.scan()]


def test_a_model_merged_with_its_own_weights_has_no_adapter(patcher_class: type[Any], sidecar: Attached, tmp_path: Path) -> None:
    for model in (Diffusion(), saved_diffusion(tmp_path / "base.safetensors")):
        patcher = patcher_class(model)
        patcher.add_patches({"diffusion_model.0.weight": ("diff", (model.diffusion_model[0].weight,))})
        assert loras(sidecar) == {}


def test_only_what_another_model_holds_is_no_adapter(patcher_class: type[Any], sidecar: Attached, tmp_path: Path) -> None:
    one, other = Diffusion(), Diffusion()
    patcher = patcher_class(one)
    patches = a_lora(tmp_path / "mixed.safetensors", layers=("0",))
    patches["diffusion_model.1.weight"] = ("diff", (other.diffusion_model[1].weight,))
    patcher.add_patches(patches)
    assert {name: lora.bytes_by_device for name, lora in loras(sidecar).items()} == {"mixed": {"cpu": LORA_BYTES // 2}}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_loras_that_were_merged_while_the_model_was_loaded_have_no_row(
    patcher_class: type[Any], sidecar: Attached, tmp_path: Path, count: int
) -> None:
    """A clone for each LoRA, and the last one is merged: it alone holds the others, as its `parent`."""
    patcher = patcher_class(Diffusion())
    for number in range(count):
        patcher = patcher.clone()
        patcher.add_patches(a_lora(tmp_path / f"style_{number}.safetensors"))
    assert len(loras(sidecar)) == count
    patcher.patches.clear()
    assert loras(sidecar) == {}


@pytest.mark.parametrize("is_seen_before", [False, True])
def test_a_mapped_model_into_which_loras_were_merged_is_said_to_be_patched_whenever_it_was_first_seen(
    patcher_class: type[Any], sidecar: Attached, tmp_path: Path, is_seen_before: bool
) -> None:
    class Blocks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.diffusion_model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(8)))

    save_file(Blocks().state_dict(), tmp_path / "base_v1.safetensors")
    os.utime(tmp_path / "base_v1.safetensors", (1e9, 1e9))
    model = Blocks()
    model.load_state_dict(load_file(tmp_path / "base_v1.safetensors"), assign=True)
    if is_seen_before:
        assert (the_base(sidecar).name, the_base(sidecar).confidence) == ("base_v1", 0.99)
    patcher = patcher_class(model)
    patcher.add_patches(a_lora(tmp_path / "style.safetensors"))
    layers: Any = model.diffusion_model
    for layer in [*layers][:5]:  # the larger part of it is mapped no more
        layer.weight = nn.Parameter(layer.weight.detach() + 0.001 * torch.randn(WIDTH, WIDTH), requires_grad=False)
    patcher.patches.clear()
    (base,) = sidecar.models()
    assert (base.name, base.confidence) == ("base_v1", 0.75)
    assert base.matched_samples is not None
    assert base.matched_samples < (base.compared_samples or 0)


def test_loras_of_a_patcher_that_is_in_use_stay_though_a_clone_lacks_them(
    patcher_class: type[Any], sidecar: Attached, tmp_path: Path
) -> None:
    patcher = patcher_class(Diffusion())
    patcher.add_patches(a_lora(tmp_path / "style.safetensors"))
    clone = patcher.clone()
    clone.patches.clear()
    assert set(loras(sidecar)) == {"style"}
    cached = {"node": [patcher]}
    del patcher
    assert set(loras(sidecar)) == {"style"}
    assert cached


def merged(patcher: Any, other: Diffusion, ratio: float) -> Any:
    """A clone that merges another model, as ModelMergeSimple does: a patch is a list with the other's weight."""
    clone = patcher.clone()
    for key, weight in other.state_dict().items():
        patch = (1.0 - ratio, [(weight, lambda value, **_: value)], ratio, None, None)
        clone.patches.setdefault(key, []).append(patch)
    clone.patches_uuid = object()
    return clone


def load_patches(patcher: Any) -> None:
    """Apply them as ComfyUI does before it samples, and keep nothing of what was there before."""
    with torch.no_grad():
        for name, parameter in patcher.model.named_parameters():
            value = parameter.detach().clone()
            for strength, patch, strength_of_model, *_ in patcher.patches.get(name, ()):
                value = value * strength_of_model + patch[0][0] * strength
            parameter.copy_(value)


def test_a_merged_model_is_called_by_both_once_its_values_are_both(
    patcher_class: type[Any], sidecar: Attached, tmp_path: Path
) -> None:
    one, other = saved_diffusion(tmp_path / "alpha_v1.safetensors"), saved_diffusion(tmp_path / "beta_v2.safetensors")
    before = {key: value.clone() for key, value in one.state_dict().items()}
    patcher = merged(patcher_class(one), other, 0.5)
    assert {model.name for model in sidecar.models()} == {"alpha_v1", "beta_v2"}
    load_patches(patcher)
    found = {model.name: model for model in sidecar.models()}
    assert set(found) == {"merged of alpha_v1 (4 of 4 tensors) and beta_v2", "beta_v2"}
    (name,) = found.keys() - {"beta_v2"}
    assert (found[name].confidence, found[name].files) == (0.75, (str(tmp_path / "alpha_v1.safetensors"),))
    with torch.no_grad():
        for key, parameter in one.named_parameters():
            parameter.copy_(before[key])
    assert {model.name for model in sidecar.models()} == {"alpha_v1", "beta_v2"}


def test_a_merge_of_three_models_names_all_and_one_of_some_layers_says_how_many(
    patcher_class: type[Any], sidecar: Attached, tmp_path: Path
) -> None:
    one, two, three = (saved_diffusion(tmp_path / f"{name}.safetensors") for name in ("alpha", "beta", "gamma"))
    patcher = merged(merged(patcher_class(one), two, 0.5), three, 0.5)
    for key in ("diffusion_model.0.weight", "diffusion_model.0.bias"):
        patcher.patches[key] = [(0.0, *patch[1:2], 1.0, *patch[3:]) for patch in patcher.patches[key]]
    load_patches(patcher)
    assert "merged of alpha (2 of 4 tensors), beta and gamma" in {model.name for model in sidecar.models()}


def test_a_model_that_is_merged_into_another_but_was_loaded_anew_is_what_it_was_loaded_from(
    patcher_class: type[Any], sidecar: Attached, tmp_path: Path
) -> None:
    one, other = saved_diffusion(tmp_path / "alpha.safetensors"), saved_diffusion(tmp_path / "beta.safetensors")
    third = saved_diffusion(tmp_path / "gamma.safetensors")
    patcher = merged(patcher_class(one), other, 0.5)
    sidecar.models()
    with torch.no_grad():
        for key, parameter in one.named_parameters():
            parameter.copy_(third.state_dict()[key])
    assert sorted(model.name for model in sidecar.models()) == ["beta", "gamma", "gamma"]
    assert patcher


def test_what_is_merged_from_nowhere_has_no_name(patcher_class: type[Any], sidecar: Attached, tmp_path: Path) -> None:
    one = saved_diffusion(tmp_path / "alpha.safetensors")
    patcher = merged(patcher_class(one), Diffusion(), 0.5)
    load_patches(patcher)
    assert not any("merged of" in model.name for model in sidecar.models())


def test_a_patcher_that_cannot_be_read_hides_no_other(patcher_class: type[Any], sidecar: Attached, tmp_path: Path) -> None:
    broken, whole = patcher_class(Diffusion()), patcher_class(Diffusion())
    broken.patches = {"diffusion_model.0.weight": 3, 7: [()], "diffusion_model.1.weight": [(1.0,)]}
    whole.add_patches(a_lora(tmp_path / "whole.safetensors"))
    assert set(loras(sidecar)) == {"whole"}


def test_comfyui_is_left_as_it_was(patcher_class: type[Any]) -> None:
    functions = dict(vars(patcher_class))
    codes = {name: value.__code__ for name, value in functions.items() if hasattr(value, "__code__")}
    with attached():
        assert dict(vars(patcher_class)) == functions
    assert {name: getattr(patcher_class, name).__code__ for name in codes} == codes
