"""Which modules are models, tested on trees of real modules."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gpumodels_shared.schema import Model
from modules import Backbone, Block, attached, distinct_bytes
from work import counted


class UNet(Backbone):
    """A part with weights of its own."""


class Decoder(Backbone):
    """Another part with weights of its own."""


class PreTrainedModel(nn.Module):
    """Named like the base class of transformers."""


class TextModel(PreTrainedModel):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block() for _ in range(2))


class ImageModel(PreTrainedModel):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block() for _ in range(3))


def by_class(models: tuple[Model, ...]) -> dict[str, Model]:
    return {model.class_name: model for model in models}


def test_a_container_of_models_loaded_from_files_of_their_own_is_split(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    with attached() as sidecar:
        container = nn.ModuleDict({"unet": UNet(), "vae": Decoder(2)})
        for name, part in container.items():
            save_file(part.state_dict(), tmp_path / f"my_{name}_v1.safetensors")
            part.load_state_dict(load_file(tmp_path / f"my_{name}_v1.safetensors"))
        models = by_class(sidecar.models())
        assert {one.name: one.slot for one in models.values()} == {"my_unet_v1": "unet", "my_vae_v1": "vae"}
        assert models["UNet"].resident_bytes == distinct_bytes(container["unet"])
        assert models["Decoder"].resident_bytes == distinct_bytes(container["vae"])


def test_a_container_whose_parts_came_from_one_file_is_one_model(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    with attached() as sidecar:
        container = nn.ModuleDict({"unet": UNet(), "vae": Decoder()})
        save_file(container.state_dict(), tmp_path / "whole_v1.safetensors")
        container.load_state_dict(load_file(tmp_path / "whole_v1.safetensors"))
        (model,) = sidecar.models()
        assert model.name == "whole_v1"
        assert model.resident_bytes == distinct_bytes(container)


def test_a_model_into_which_a_part_of_another_file_was_loaded_stays_one_row(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    with attached() as sidecar:
        for name in ("base_v1", "other_v1"):
            save_file(Backbone().state_dict(), tmp_path / f"{name}.safetensors")
        model = Backbone()
        model.load_state_dict(load_file(tmp_path / "base_v1.safetensors"))
        part = {key: value for key, value in load_file(tmp_path / "other_v1.safetensors").items() if "blocks.0" in key}
        model.load_state_dict(part, strict=False)
        (found,) = sidecar.models()
        assert (found.name, found.resident_bytes) == ("base_v1", distinct_bytes(model))
        assert [Path(path).name for path in found.files] == ["base_v1.safetensors", "other_v1.safetensors"]


def test_a_training_module_that_holds_librarys_models_is_split_and_its_own_rest_is_a_row() -> None:
    class Training(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.text = TextModel()
            self.image = ImageModel()
            self.projection = nn.Linear(256, 256)

    with attached() as sidecar:
        model = Training()
        models = by_class(sidecar.models())
        assert models.keys() == {"TextModel", "ImageModel", "Training"}
        assert models["Training"].resident_bytes == distinct_bytes(model.projection)
        assert models["TextModel"].slot == "text"
        assert sum(one.resident_bytes for one in models.values()) == distinct_bytes(model)


def test_a_composite_model_that_is_one_by_its_librarys_word_stays_one_row() -> None:
    class Multimodal(PreTrainedModel):
        def __init__(self) -> None:
            super().__init__()
            self.text = TextModel()
            self.image = ImageModel()

    with attached() as sidecar:
        model = Multimodal()
        (one,) = sidecar.models()
        assert (one.class_name, one.resident_bytes) == ("Multimodal", distinct_bytes(model))


def test_a_model_without_any_identity_stays_one_row() -> None:
    with attached() as sidecar:
        model = nn.ModuleList([Backbone(), Backbone(), Block()])
        (one,) = sidecar.models()
        assert one.resident_bytes == distinct_bytes(model)


def test_a_module_under_two_models_is_marked_in_both() -> None:
    with attached() as sidecar:
        common = Backbone()
        first, second = nn.ModuleDict({"common": common, "own": Block()}), nn.ModuleDict({"common": common, "own": Block(128)})
        models = sidecar.models()
        assert sorted(one.resident_bytes for one in models) == [distinct_bytes(second["own"]), distinct_bytes(first)]
        ids = {one.id for one in models}
        assert [set(one.shares_with) for one in models] == [ids - {one.id} for one in models]
        assert second is not first


def test_a_model_that_two_containers_hold_is_one_row_and_stays_when_one_of_them_is_deleted() -> None:
    with attached() as sidecar:
        text = TextModel()
        first = nn.ModuleDict({"text": text, "image": ImageModel()})
        second = nn.ModuleDict({"text": text, "picture": ImageModel()})
        models = sidecar.models()
        assert sorted(one.class_name for one in models) == ["ImageModel", "ImageModel", "TextModel"]
        assert len({one.id for one in models}) == 3
        del first
        gc.collect()
        models = sidecar.models()
        assert sorted(one.class_name for one in models) == ["ImageModel", "TextModel"]
        assert sum(one.resident_bytes for one in models) == distinct_bytes(second)


def test_parts_keep_their_ids_when_a_container_changes() -> None:
    with attached() as sidecar:
        container = nn.ModuleDict({"text": TextModel(), "image": ImageModel()})
        before = {one.class_name: one.id for one in sidecar.models()}
        container["extra"] = nn.Linear(256, 256)
        after = {one.class_name: one.id for one in sidecar.models()}
        assert {name: after[name] for name in before} == before
        assert after.keys() - before.keys() == {"ModuleDict"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_an_unchanged_model_keeps_its_description_while_another_changes(dtype: torch.dtype) -> None:
    with attached() as sidecar:
        still, cast = Backbone(), UNet()
        before = by_class(sidecar.models(now_ns=5))
        cast.to(dtype)
        after = by_class(sidecar.models(now_ns=9))
        assert after["Backbone"] == before["Backbone"]
        assert after["UNet"].dtypes == {str(dtype).removeprefix("torch."): distinct_bytes(cast)}
        assert still is not cast


class KohyaModule(nn.Module):
    """Like the modules of kohya's networks: its forward replaces that of the adapted module."""

    def __init__(self, adapted: Any) -> None:
        super().__init__()
        self.lora_down = nn.Linear(256, 64, bias=False)
        self.lora_up = nn.Linear(64, 256, bias=False)
        self.org_forward = adapted.forward
        adapted.forward = self.forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.org_forward(x) + self.lora_up(self.lora_down(x))
        return out


def test_a_kohya_network_is_an_adapter_of_the_model_that_it_stands_in_for() -> None:
    with attached() as sidecar:
        base, stranger = UNet(), Decoder()
        network = nn.ModuleList(KohyaModule(block.get_submodule("q")) for block in base.blocks)
        models = by_class(sidecar.models())
        assert models["ModuleList"].kind == "lora"
        assert models["ModuleList"].parent == models["UNet"].id
        assert models["UNet"].adapters == (models["ModuleList"].id,)
        assert models["ModuleList"].resident_bytes == distinct_bytes(network)
        assert models["UNet"].resident_bytes == distinct_bytes(base)
        assert models["Decoder"].adapters == ()
        assert models["Decoder"].resident_bytes == distinct_bytes(stranger)


def test_more_models_than_readers_accept_are_summed_from_the_smallest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpumodels.publishing.snapshot_models.MAX_MODELS", 3)
    with attached() as sidecar:
        models = [Backbone(blocks) for blocks in (1, 2, 3, 4, 5)]
        rows = sidecar.models()
        assert [row.resident_bytes for row in rows[:-1]] == [distinct_bytes(model) for model in models[:1:-1]]
        assert rows[-1].name == "2 small modules"
        assert sum(row.resident_bytes for row in rows) == distinct_bytes(*models)


def test_no_more_rows_are_published_than_readers_accept_adapters_included(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpumodels.publishing.snapshot_models.MAX_MODELS", 3)
    with attached() as sidecar:
        base = Backbone(blocks=4)
        for number in range(4):
            for block in base.blocks:
                table = block._modules.setdefault("lora_A", nn.ModuleDict())
                assert isinstance(table, nn.ModuleDict)
                table[f"style{number}"] = nn.Linear(256, 64 + number, bias=False)
        models = sidecar.models()
        assert [model.name for model in models[1:3]] == ["style3", "style2"]
        assert len(models) == 3 + 1  # and the sum of what is left
        assert sum(model.resident_bytes for model in models) == distinct_bytes(base)


def test_two_hundred_models_that_share_a_tensor_are_related_to_each_other_in_one_pass() -> None:
    def steps(count: int) -> int:
        with attached() as sidecar:
            models = [Backbone(blocks=1, width=200 + number) for number in range(count)]
            for model in models[1:]:
                model.blocks[0].get_submodule("q").weight = models[0].blocks[0].get_submodule("q").weight
            found = sidecar.scan()
            sidecar.described(found)
            with counted() as work:
                described = sidecar.snapshot_models.models(found, 0)
            assert len(described) == count
            assert all(len(one.shares_with) == count - 1 for one in described)
            return work.steps

    assert steps(80) < 2.6 * steps(40)
