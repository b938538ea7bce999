"""Which modules are models, tested on trees of real modules."""

from __future__ import annotations

import gc
from pathlib import Path

from torch import nn

from modules import Backbone, Block, attached, by_class, distinct_bytes


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
