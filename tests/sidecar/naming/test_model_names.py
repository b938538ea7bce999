"""Ways to get a wrong name out of it, each tried: what was loaded isn't there any more, was never loaded, or is another's too."""

from __future__ import annotations

import copy
import gc
import os
from collections import UserDict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from gpumodels_shared.schema import Model
from modules import Attached, Backbone, attached

safetensors = pytest.importorskip("safetensors.torch")
load_file, save_file = safetensors.load_file, safetensors.save_file


@pytest.fixture
def sidecar() -> Iterator[Attached]:
    with attached() as one:
        yield one
        assert one.failures.count == 0


class Files:
    """Safetensors files of new values, written long ago."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def write(self, name: str, model: nn.Module | None = None, metadata: dict[str, str] | None = None) -> Path:
        path = self.directory / f"{name}.safetensors"
        save_file((model or Backbone()).state_dict(), path, metadata)
        os.utime(path, (1e9, 1e9))
        return path

    def read(self, name: str) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = load_file(self.write(name))
        return found


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def loaded(state: dict[str, torch.Tensor], **options: bool) -> Backbone:
    model = Backbone()
    model.load_state_dict(state, **options)
    return model


def the_model(sidecar: Attached) -> Model:
    """Looked at as after ten seconds in which nobody told of anything."""
    (model,) = sidecar.models()
    return model


def said(model: Model) -> tuple[str, str]:
    return model.name, model.name_source


def copy_in_place(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.copy_(state[key])


def copy_into_data(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    for key, parameter in model.named_parameters():
        parameter.data.copy_(state[key])


def set_data(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    for key, parameter in model.named_parameters():
        parameter.data = state[key]


def load_another_mapping(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    model.load_state_dict(UserDict(state))


def load_and_fail(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    missing = {key: value for key, value in state.items() if key != "blocks.2.k.weight"}
    with pytest.raises(RuntimeError, match="Missing key"):
        model.load_state_dict(missing)


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("overwrite", [copy_in_place, copy_into_data, set_data, load_another_mapping, load_and_fail])
def test_a_model_that_another_file_was_written_over_has_that_ones_name(
    sidecar: Attached, files: Files, overwrite: Callable[[nn.Module, dict[str, torch.Tensor]], None], assign: bool
) -> None:
    model = loaded(files.read("first_v1"), assign=assign)
    assert the_model(sidecar).name == "first_v1"
    overwrite(model, files.read("second_v1"))
    assert the_model(sidecar).name == "second_v1"


def reset(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.reset_parameters()


def copy_from_nowhere(model: nn.Module) -> None:
    copy_into_data(model, Backbone().state_dict())


@pytest.mark.parametrize("overwrite", [reset, copy_from_nowhere])
def test_a_model_that_other_values_were_written_over_has_no_name(
    sidecar: Attached, files: Files, overwrite: Callable[[nn.Module], None]
) -> None:
    model = loaded(files.read("first_v1"))
    assert the_model(sidecar).name == "first_v1"
    overwrite(model)
    assert said(the_model(sidecar)) == ("Backbone", "class")


def test_values_that_changed_in_the_dictionary_before_they_were_loaded_are_not_the_files(sidecar: Attached, files: Files) -> None:
    one, other = files.read("one_v1"), files.read("other_v1")
    for key, value in one.items():
        value.mul_(0.5).add_(other[key], alpha=0.5)
    model = loaded(one)
    assert said(the_model(sidecar)) == ("Backbone", "class")
    del model


def test_a_small_part_of_another_file_does_not_take_the_name(sidecar: Attached, files: Files) -> None:
    model = loaded(files.read("base_v1"))
    part = {key: value for key, value in files.read("part_v1").items() if "blocks.0" in key}
    model.load_state_dict(part, strict=False)
    found = the_model(sidecar)
    assert said(found) == ("base_v1", "state dict")
    assert [Path(path).stem for path in found.files] == ["base_v1", "part_v1"]


def test_a_model_made_of_two_files_in_equal_parts_has_both_as_candidates(sidecar: Attached, files: Files) -> None:
    one, other = files.read("one_v1"), files.read("other_v1")
    keys = list(one)
    model = loaded({key: (one if number < 7 else other)[key].clone() for number, key in enumerate(keys)})
    found = the_model(sidecar)
    assert (found.name, found.confidence) == ("Backbone", 0.5)
    assert {Path(path).stem for path in found.candidates} == {"one_v1", "other_v1"}
    del model


def test_a_lora_merged_into_some_weights_leaves_the_name_and_is_counted(sidecar: Attached, files: Files) -> None:
    model = loaded(files.read("base_v1"))
    with torch.no_grad():
        for weight in weights(model, "q"):
            weight.add_(torch.randn(256, 4) @ torch.randn(4, 256) * 0.01)
    found = the_model(sidecar)
    assert said(found) == ("base_v1", "state dict")
    assert (found.matched_tensors, found.compared_tensors) == (9, 12)
    with torch.no_grad():
        for weight in weights(model, "k"):
            weight.mul_(1.01)
    assert (the_model(sidecar).matched_samples, the_model(sidecar).compared_samples) == (6, 12)


def weights(model: nn.Module, name: str) -> list[nn.Parameter]:
    """Of the linears of this name."""
    return [parameter for key, parameter in model.named_parameters() if key.endswith(f".{name}.weight")]


def train(model: nn.Module, rate: float = 1e-3) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()


def test_a_copy_that_is_trained_in_place_is_said_to_be_changed_and_in_the_end_is_not_that_model(
    sidecar: Attached, files: Files
) -> None:
    model = loaded(files.read("base_v1"))
    copied = copy.deepcopy(model)
    del model
    gc.collect()
    found = the_model(sidecar)
    assert (*said(found), found.confidence) == ("base_v1", "values", 0.97)
    train(copied)
    trained = the_model(sidecar)
    assert (*said(trained), trained.confidence) == ("base_v1", "values", 0.75)
    assert (trained.matched_samples, trained.compared_samples) == (0, 12)
    train(copied, rate=1.0)
    assert said(the_model(sidecar)) == ("Backbone", "class")


def test_a_model_that_is_trained_after_loading_is_said_to_be_changed(sidecar: Attached, files: Files) -> None:
    model = loaded(files.read("base_v1"))
    assert the_model(sidecar).matched_samples is None
    train(model)
    trained = the_model(sidecar)
    assert said(trained) == ("base_v1", "state dict")
    assert (trained.matched_samples, trained.compared_samples, trained.matched_tensors) == (0, 12, None)


def test_an_average_of_two_models_is_neither(sidecar: Attached, files: Files) -> None:
    averaged = copy.deepcopy(loaded(files.read("one_v1")))
    with torch.no_grad():
        for parameter, other in zip(averaged.parameters(), Backbone().parameters(), strict=True):
            parameter.lerp_(other, 0.5)
    gc.collect()
    assert said(the_model(sidecar)) == ("Backbone", "class")


@pytest.mark.parametrize("way", ["safetensors", "torch"])
def test_a_model_that_was_saved_before_it_was_scanned_has_not_its_own_files_name(
    sidecar: Attached, tmp_path: Path, way: str
) -> None:
    built = Backbone()
    path = tmp_path / "saved_v1"
    if way == "safetensors":
        save_file(built.state_dict(), path.with_suffix(".safetensors"))
        state = load_file(path.with_suffix(".safetensors"))
    else:
        torch.save({"state_dict": built.state_dict()}, path.with_suffix(".pt"))
        state = torch.load(path.with_suffix(".pt"))["state_dict"]
    other = loaded(state)
    assert sorted(model.name for model in sidecar.models()) == ["Backbone", "saved_v1"]
    (unnamed,) = [model for model in sidecar.models() if model.name == "Backbone"]
    assert unnamed.fingerprint is not None
    written_ns = next(tmp_path.iterdir()).stat().st_mtime_ns
    assert unnamed.fingerprint.taken_at_ns < written_ns  # so no viewer takes the file for its source
    del built, other


def test_a_model_loaded_from_a_file_that_another_was_saved_to_has_its_name_though_the_values_are_the_same(
    sidecar: Attached, tmp_path: Path
) -> None:
    built = Backbone()
    save_file(built.state_dict(), tmp_path / "saved_v1.safetensors")
    os.utime(tmp_path / "saved_v1.safetensors", (1e9, 1e9))
    load_file(tmp_path / "saved_v1.safetensors")
    other = Backbone()
    copy_into_data(other, built.state_dict())
    del built
    gc.collect()
    assert said(the_model(sidecar)) == ("saved_v1", "values")


def test_a_file_that_was_replaced_after_loading_describes_the_model_as_what_was_loaded(sidecar: Attached, files: Files) -> None:
    path = files.write("alpha", metadata={"model_type": "Alpha-7B"})
    stamp = path.stat()
    model = loaded(load_file(path))
    assert the_model(sidecar).name == "alpha"
    files.write("new", metadata={"model_type": "Alpha-7B-beta"}).replace(path)
    load_file(path)
    found = the_model(sidecar)
    assert (found.name, dict(found.metadata)) == ("alpha", {"model_type": "Alpha-7B"})
    assert found.file_stamps == ((stamp.st_size, stamp.st_mtime_ns),)
    model.load_state_dict(load_file(path))
    assert dict(the_model(sidecar).metadata) == {"model_type": "Alpha-7B-beta"}


def test_a_model_that_was_never_loaded_has_not_the_name_of_one_that_it_looks_like(sidecar: Attached, files: Files) -> None:
    one = loaded(files.read("first_v1")).to("meta")
    with torch.device("meta"):
        other = Backbone()
    found = {model.name: model for model in sidecar.models()}
    assert set(found) == {"first_v1", "Backbone"}
    assert found["Backbone"].confidence == 0.5
    assert [Path(path).stem for path in found["Backbone"].candidates] == ["first_v1"]
    del one, other


def test_of_two_that_look_like_one_file_and_can_not_be_told_from_each_other_neither_has_its_name(
    sidecar: Attached, files: Files
) -> None:
    files.read("first_v1")
    with torch.device("meta"):
        one = Backbone()
        assert said(the_model(sidecar)) == ("first_v1", "names and shapes")
        other = Backbone()
    assert [(model.name, model.confidence) for model in sidecar.models()] == [("Backbone", 0.5)] * 2
    del one, other


def test_two_models_of_one_file_both_have_its_name(sidecar: Attached, files: Files) -> None:
    path = files.write("first_v1")
    models = [loaded(load_file(path)), loaded(load_file(path))]
    assert [said(model) for model in sidecar.models()] == [("first_v1", "state dict")] * 2
    del models


def test_files_without_a_name_of_their_own_in_places_without_one_name_nothing(sidecar: Attached, tmp_path: Path) -> None:
    for place in ("loras", "output", "Downloads"):
        (tmp_path / place).mkdir()
        model = loaded(load_file(Files(tmp_path / place).write("diffusion_pytorch_model")))
        found = the_model(sidecar)
        assert (found.name, found.confidence, len(found.files)) == ("Backbone", 0.5, 1)
        del model
        gc.collect()


@pytest.mark.parametrize("word", ["model", "unet", "encoder", "Backbone", " "])
def test_what_a_module_calls_its_part_is_no_name(sidecar: Attached, word: str) -> None:
    model = Backbone()
    model.name = word  # type: ignore[assignment]
    assert said(the_model(sidecar)) == ("Backbone", "class")
    model.name = "my-own-net"  # type: ignore[assignment]
    assert said(the_model(sidecar)) == ("my-own-net", "attribute")


class Config:
    """As transformers has them."""

    model_type = "backbone"

    def __init__(self, place: Path) -> None:
        self._name_or_path = str(place)


def configure(model: nn.Module, place: Path) -> None:
    model.config = Config(place)  # type: ignore[assignment]


def test_a_model_built_from_a_config_alone_has_not_the_name_that_the_config_bears(sidecar: Attached, tmp_path: Path) -> None:
    directory = tmp_path / "my-tune"
    directory.mkdir()
    with torch.device("meta"):
        model = Backbone()
    configure(model, directory)
    assert (the_model(sidecar).name, the_model(sidecar).confidence) == ("Backbone (backbone)", 0.0)
    (directory / "other.bin").write_bytes(b"")
    sidecar.origin_tracker.files_read.add(str(directory / "other.bin"))
    assert said(the_model(sidecar)) == ("my-tune", "config")
    built = copy.deepcopy(model)
    del model
    gc.collect()
    copied = the_model(sidecar)  # nobody saw it being built
    assert (*said(copied), copied.candidates) == ("Backbone (backbone)", "class", (str(directory / "other.bin"),))
    del built


def nowhere(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Where values can't be seen."""
    return {key: value.to("meta") for key, value in state.items()}


def test_what_was_loaded_unseen_over_a_model_ends_the_name_that_its_config_bears(sidecar: Attached, tmp_path: Path) -> None:
    directory = tmp_path / "my-tune"
    directory.mkdir()
    load_file(Files(directory).write("model"))
    with torch.device("meta"):
        model = Backbone()
    configure(model, directory)
    assert the_model(sidecar).name == "my-tune"
    model.load_state_dict(nowhere(Backbone().state_dict()))
    assert (the_model(sidecar).name, the_model(sidecar).confidence) == ("Backbone (backbone)", 0.0)
    model.load_state_dict(nowhere(Files(directory).read("model")))
    assert the_model(sidecar).name == "my-tune"


def test_of_files_with_equal_names_and_shapes_the_one_counts_that_was_read_for_the_load(sidecar: Attached, files: Files) -> None:
    files.read("first_v1")
    with torch.device("meta"):
        one, other = Backbone(), Backbone()
    one.load_state_dict(nowhere(Backbone().state_dict()))  # of which nobody read a file since the last load
    other.load_state_dict(nowhere(files.read("second_v1")))
    found = {model.id: model for model in sidecar.models()}
    assert sorted((model.name, model.name_source) for model in found.values())[-1] == ("second_v1", "names and shapes")
    del one, other


def test_a_config_names_no_second_model_whose_values_can_not_be_seen(sidecar: Attached, tmp_path: Path) -> None:
    directory = tmp_path / "my-tune"
    directory.mkdir()
    teacher = loaded(load_file(Files(directory).write("model"))).to("meta")
    with torch.device("meta"):
        student = Backbone()
    for model in (teacher, student):
        configure(model, directory)
    assert sorted((model.name, model.confidence) for model in sidecar.models()) == [
        ("Backbone (backbone)", 0.5),
        ("my-tune", 0.95),
    ]


def test_a_model_whose_values_are_denied_is_not_named_by_its_config_either(sidecar: Attached, tmp_path: Path) -> None:
    directory = tmp_path / "my-tune"
    directory.mkdir()
    torch.save(Backbone().state_dict(), directory / "pytorch_model.bin")
    model = loaded(torch.load(directory / "pytorch_model.bin"))
    configure(model, directory)
    assert the_model(sidecar).name == "my-tune"
    reset(model)
    assert the_model(sidecar).name == "Backbone (backbone)"


class Renamed(nn.Module):
    """As large as a Backbone, with other names: nothing but the time tells of its file."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(256, 256) for _ in range(6))


def test_the_file_that_was_read_when_an_unknown_model_came_is_a_hint_and_no_name(sidecar: Attached, files: Files) -> None:
    path = files.write("base_v1")
    load_file(path)
    with torch.device("meta"):
        model = Renamed()
    found = the_model(sidecar)
    assert (*said(found), found.confidence) == ("Renamed", "recency", 0.3)
    assert (found.candidates, found.files) == ((str(path),), ())
    load_file(files.write("other_v1"))
    assert the_model(sidecar).candidates == (str(path),)  # that came later
    del model


def test_there_is_no_hint_where_another_model_has_the_file_or_values_deny_it_or_several_were_read(
    sidecar: Attached, files: Files
) -> None:
    owner = loaded(files.read("base_v1"))
    with torch.device("meta"):
        model = Renamed()
    assert {found.name: found.name_source for found in sidecar.models()} == {"base_v1": "state dict", "Renamed": "class"}
    del owner, model
    gc.collect()
    values_known = Renamed()
    assert said(the_model(sidecar)) == ("Renamed", "class")
    del values_known
    gc.collect()
    load_file(files.write("other_v1"))  # of those that were read, the only one that was read for no other model
    with torch.device("meta"):
        late = Renamed()
    assert said(the_model(sidecar)) == ("Renamed", "recency")
    del late
    gc.collect()
    for name in ("third_v1", "fourth_v1"):
        load_file(files.write(name))
    with torch.device("meta"):
        later = Renamed()
    assert said(the_model(sidecar)) == ("Renamed", "class")
    del later


class Adapted(nn.Module):
    """A linear as PEFT adapts it: what each adapter adds stands in a dictionary, under the adapter's name."""

    def __init__(self, base: nn.Linear, *adapters: str, rank: int = 16) -> None:
        super().__init__()
        self.base_layer = base
        self.lora_A = nn.ModuleDict({name: nn.Linear(256, rank, bias=False) for name in adapters})
        self.lora_B = nn.ModuleDict({name: nn.Linear(rank, 256, bias=False) for name in adapters})


class AdaptedBackbone(Backbone):
    """A backbone with adapters in each of its linears."""

    def __init__(self, *adapters: str) -> None:
        super().__init__()
        for block in self.blocks:
            block.q, block.k = Adapted(block.q, *adapters), Adapted(block.k, *adapters)  # type: ignore[arg-type]

    def of(self, adapter: str) -> dict[str, nn.Parameter]:
        """The adapter's parameters, by the keys of its file."""
        named = self.named_parameters()
        return {f"base_model.model.{key.replace(f'.{adapter}', '')}": one for key, one in named if f".{adapter}." in key}


def a_lora(files: Files, name: str) -> dict[str, torch.Tensor]:
    values = {key: torch.randn_like(one) for key, one in AdaptedBackbone("default").of("default").items()}
    path = files.directory / f"{name}.safetensors"
    save_file(values, path)
    os.utime(path, (1e9, 1e9))
    found: dict[str, torch.Tensor] = load_file(path)
    return found


def load_adapter(model: AdaptedBackbone, adapter: str, state: dict[str, torch.Tensor]) -> None:
    renamed = {key.removeprefix("base_model.model.").replace(".weight", f".{adapter}.weight"): one for key, one in state.items()}
    model.load_state_dict(renamed, strict=False)


def exchange(model: AdaptedBackbone, adapter: str, state: dict[str, torch.Tensor], every: int = 1) -> None:
    for number, (key, parameter) in enumerate(model.of(adapter).items()):
        if number % every == 0:
            parameter.data.copy_(state[key])


def the_adapters(sidecar: Attached) -> list[Model]:
    return sorted((model for model in sidecar.models() if model.parent is not None), key=lambda model: model.id)


@pytest.mark.parametrize("label", ["default", "pirate"])
def test_an_adapter_whose_weights_are_exchanged_in_place_has_the_name_of_the_file_that_they_are_of(
    sidecar: Attached, files: Files, label: str
) -> None:
    model = AdaptedBackbone(label)
    load_adapter(model, label, a_lora(files, "pirate_v1"))
    (found,) = the_adapters(sidecar)
    assert (found.name, found.name_source) == ("pirate_v1", "state dict")
    exchange(model, label, a_lora(files, "lawyer_v1"))
    (found,) = the_adapters(sidecar)
    assert (found.name, found.name_source, found.confidence) == ("lawyer_v1", "values", 0.97)
    assert [Path(path).stem for path in found.files] == ["lawyer_v1"]


@pytest.mark.parametrize("label", ["default", "default_0", "pirate"])
def test_an_adapter_whose_weights_are_nobodys_has_no_name_not_even_its_label(sidecar: Attached, files: Files, label: str) -> None:
    model = AdaptedBackbone(label)
    load_adapter(model, label, a_lora(files, "pirate_v1"))
    assert the_adapters(sidecar)[0].name == "pirate_v1"
    exchange(model, label, {key: torch.randn_like(one) for key, one in model.of(label).items()})
    (found,) = the_adapters(sidecar)
    assert (found.name, found.confidence, found.files) == ("LoRA", 0.0, ())
    assert found.fingerprint is not None, "viewers may know the file"


def test_only_the_adapter_whose_weights_were_exchanged_changes_its_name(sidecar: Attached, files: Files) -> None:
    model = AdaptedBackbone("one", "two")
    load_adapter(model, "one", a_lora(files, "pirate_v1"))
    load_adapter(model, "two", a_lora(files, "sailor_v1"))
    exchange(model, "two", a_lora(files, "lawyer_v1"))
    assert [found.name for found in the_adapters(sidecar)] == ["pirate_v1", "lawyer_v1"]


def test_an_adapter_half_of_whose_weights_were_exchanged_has_both_files_as_candidates(sidecar: Attached, files: Files) -> None:
    model = AdaptedBackbone("default")
    load_adapter(model, "default", a_lora(files, "pirate_v1"))
    exchange(model, "default", a_lora(files, "lawyer_v1"), every=2)
    (found,) = the_adapters(sidecar)
    assert (found.name, found.confidence) == ("LoRA", 0.5)
    assert {Path(path).stem for path in found.candidates} == {"pirate_v1", "lawyer_v1"}


def test_an_adapter_that_was_filled_unseen_is_named_by_its_values(sidecar: Attached, files: Files) -> None:
    model = AdaptedBackbone("default")
    exchange(model, "default", a_lora(files, "pirate_v1"))
    (found,) = the_adapters(sidecar)
    assert (found.name, found.name_source) == ("pirate_v1", "values")


def test_a_trained_adapter_keeps_its_name_and_is_said_to_be_changed(sidecar: Attached, files: Files) -> None:
    model = AdaptedBackbone("default")
    load_adapter(model, "default", a_lora(files, "pirate_v1"))
    for parameter in model.of("default").values():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.01)
    (found,) = the_adapters(sidecar)
    assert (found.name, found.name_source, found.matched_samples) == ("pirate_v1", "state dict", 0)


def test_a_model_half_of_which_was_written_over_has_both_files_as_candidates(sidecar: Attached, files: Files) -> None:
    model = loaded(files.read("first_v1"))
    state = files.read("second_v1")
    for key, parameter in model.named_parameters():
        if ".k." in key:
            parameter.data.copy_(state[key])
    found = the_model(sidecar)
    assert (found.name, found.confidence) == ("Backbone", 0.5)
    assert {Path(path).stem for path in found.candidates} == {"first_v1", "second_v1"}


@pytest.fixture
def linked(files: Files) -> Path:
    """A symlink to the folder of models."""
    folder = files.directory / "models"
    folder.mkdir()
    link = files.directory / "link"
    link.symlink_to(folder)
    return link


def loaded_unseen(state: dict[str, torch.Tensor]) -> Backbone:
    """Nothing tells of it but the values."""
    model = Backbone()
    for key, parameter in model.named_parameters():
        parameter.data = state[key].half()
    return model


def test_a_file_in_a_symlinked_folder_is_one_file(sidecar: Attached, files: Files, linked: Path) -> None:
    """The host reads it by its own path; the kernel lists the real one while it is mapped."""
    path = files.write("models/tune_v2", metadata={"modelspec.title": "Tune"})
    state = load_file(linked / path.name)
    model = loaded_unseen(state)
    found = the_model(sidecar)
    assert (found.name, found.name_source, found.files) == ("tune_v2", "values", (str(linked / path.name),))
    assert (found.candidates, dict(found.metadata)) == ((), {"modelspec.title": "Tune"})
    assert model is not None


def test_a_model_mapped_by_two_paths_of_one_file_is_from_one_file(sidecar: Attached, files: Files, linked: Path) -> None:
    path = files.write("models/tune_v2", metadata={"modelspec.title": "Tune"})
    both = load_file(path), load_file(linked / path.name)
    model = loaded({key: both[number % 2][key] for number, key in enumerate(both[0])}, assign=True)
    found = the_model(sidecar)
    assert (found.name, found.candidates, len(found.files)) == ("tune_v2", (), 1)
    assert (found.confidence, dict(found.metadata)) == (0.99, {"modelspec.title": "Tune"})
    assert model is not None


def test_a_model_keeps_the_path_that_it_was_loaded_by(sidecar: Attached, files: Files) -> None:
    path = files.write("tune_v2")
    link = files.directory / "latest_v9.safetensors"
    link.symlink_to(path)
    model = loaded(load_file(path))
    state = load_file(link)
    found = the_model(sidecar)
    assert (found.name, found.files) == ("tune_v2", (str(path),))
    assert model is not state


def test_a_copy_of_a_file_is_another_file(sidecar: Attached, files: Files) -> None:
    original = files.write("written").rename(files.directory / "tune_v2.safetensors")  # not known as written by this process
    path = files.directory / "copy_v3.safetensors"
    path.write_bytes(original.read_bytes())
    os.utime(path, (1e9, 1e9))
    model = loaded_unseen(load_file(original))
    load_file(path)
    assert set(the_model(sidecar).candidates) == {str(original), str(path)}
    assert model is not None


def test_a_precision_that_cannot_be_read_costs_no_name(monkeypatch: pytest.MonkeyPatch, files: Files) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("odd")

    monkeypatch.setattr("gpumodels.naming.model_inquiry.stated_precision", fail)
    with attached() as sidecar:
        model = loaded(files.read("tiny_v1"))
        shown = the_model(sidecar)
        assert (shown.name, shown.precision) == ("tiny_v1", None)
        assert sidecar.failures.count == 1
        assert model is not None
