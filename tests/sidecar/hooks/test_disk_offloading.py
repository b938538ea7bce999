"""A model whose weights a library writes to files of its own and reads back keeps the name of where they came from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save, save_file
from torch import nn

from modules import Attached, Backbone, attached


class ModuleGroup:
    """As in diffusers 0.42.1: what is away is uninitialised memory of the same size."""

    def __init__(self, module: nn.Module, path: Path) -> None:
        self.safetensors_file_path = path
        self.tensor_to_key = {tensor: f"tensor_{number}" for number, tensor in enumerate(module.parameters())}

    def _offload_to_disk(self) -> None:
        if not self.safetensors_file_path.exists():
            save_file({key: tensor.data.to("cpu") for tensor, key in self.tensor_to_key.items()}, self.safetensors_file_path)
        for tensor in self.tensor_to_key:
            tensor.data = torch.full_like(tensor.data, 7.0)

    def _onload_from_disk(self) -> None:
        loaded = load_file(self.safetensors_file_path)
        for tensor, key in self.tensor_to_key.items():
            tensor.data = loaded[key]


def offload_weight(weight: torch.Tensor, weight_name: str, offload_folder: str, index: Any = None) -> Any:
    """As in accelerate 1.15: raw values."""
    weight.numpy().tofile(os.path.join(offload_folder, f"{weight_name}.dat"))  # noqa: PTH118
    index[weight_name] = {"dtype": "float32", "shape": list(weight.shape)}
    return index


class OffloadedWeightsLoader:
    """As in accelerate."""

    def __init__(self, save_folder: str, index: dict[str, Any]) -> None:
        self.state_dict: dict[str, torch.Tensor] = {}
        self.save_folder, self.index = save_folder, index


class PrefixedDataset:
    """As in accelerate."""

    def __init__(self, dataset: OffloadedWeightsLoader, prefix: str) -> None:
        self.dataset, self.prefix = dataset, prefix


class AlignDevicesHook:
    """As in accelerate."""

    def __init__(self, weights_map: Any) -> None:
        self.weights_map = weights_map


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Attached]:
    save_file(Backbone().state_dict(), tmp_path / "base_v1.safetensors")
    os.utime(tmp_path / "base_v1.safetensors", (1e9, 1e9))
    with attached() as found:
        awaited = found.hooks._disk_offloading.awaited(found.hooks._observers)
        for name, contents in (
            ("diffusers.hooks.group_offloading", {"ModuleGroup": ModuleGroup}),
            ("accelerate.utils.offload", {"offload_weight": offload_weight}),
        ):
            module = ModuleType(name)
            vars(module).update(contents)
            awaited[name](module)
        yield found


def from_file(folder: Path) -> Backbone:
    model = Backbone()
    model.load_state_dict(load_file(folder / "base_v1.safetensors"))
    return model


def cast_from_file(folder: Path) -> Backbone:
    """Loaded in a way that shows no origin: only values tell the file."""
    model = Backbone().half()
    state = load_file(folder / "base_v1.safetensors")
    for key, value in state.items():
        owner, _, name = key.rpartition(".")
        setattr(model.get_submodule(owner), name, nn.Parameter(value.half()))
    return model


def names(sidecar: Attached) -> list[str]:
    return [model.name for model in sidecar.models()]


@pytest.mark.parametrize("load", [from_file, cast_from_file])
@pytest.mark.parametrize("is_seen_before", [False, True])
def test_a_group_on_disk_and_back_is_what_it_was_before(
    sidecar: Attached, tmp_path: Path, load: Any, is_seen_before: bool
) -> None:
    model = load(tmp_path)
    if is_seen_before:
        assert names(sidecar) == ["base_v1"]
    groups = [ModuleGroup(block, tmp_path / f"group_{n}.safetensors") for n, block in enumerate(model.blocks)]
    for group in groups:
        group._offload_to_disk()
    assert names(sidecar) == ["base_v1"]
    groups[0]._onload_from_disk()
    assert names(sidecar) == ["base_v1"]
    for group in groups:
        group._onload_from_disk()
        group._offload_to_disk()
    assert names(sidecar) == ["base_v1"]


@pytest.mark.parametrize("is_of_an_earlier_run", [False, True])
def test_a_model_in_the_offload_folder_of_another_has_the_others_weights_and_name(
    sidecar: Attached, tmp_path: Path, is_of_an_earlier_run: bool
) -> None:
    """diffusers 0.42.1 keeps a file that exists, whoever wrote it."""
    path = tmp_path / "group_0.safetensors"
    first = from_file(tmp_path)
    if is_of_an_earlier_run:
        path.write_bytes(save({key: tensor.detach() for tensor, key in ModuleGroup(first, path).tensor_to_key.items()}))
    else:
        ModuleGroup(first, path)._offload_to_disk()
    save_file(Backbone().state_dict(), tmp_path / "second_v2.safetensors")
    model = Backbone()
    model.load_state_dict(load_file(tmp_path / "second_v2.safetensors"))
    group = ModuleGroup(model, path)
    group._offload_to_disk()
    assert "second_v2" not in names(sidecar)
    group._onload_from_disk()
    assert names(sidecar)[-1] == "base_v1", "by its values"


def test_a_group_that_is_from_no_file_has_no_name_after_it_was_written_to_one(sidecar: Attached, tmp_path: Path) -> None:
    model = Backbone()
    group = ModuleGroup(model, tmp_path / "group_0.safetensors")
    group._offload_to_disk()
    group._onload_from_disk()
    assert names(sidecar) == ["Backbone"]


def offloaded(model: nn.Module, folder: Path) -> nn.Module:
    """Write the weights to disk as accelerate does, and leave `meta` in their place."""
    index: dict[str, Any] = {}
    for key, parameter in model.state_dict().items():
        offload_weight(parameter, key, str(folder), index)
    on_meta(model, OffloadedWeightsLoader(str(folder), index))
    return model


def on_meta(model: nn.Module, loader: OffloadedWeightsLoader) -> None:
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear):
            module._hf_hook = AlignDevicesHook(PrefixedDataset(loader, f"{path}."))  # type: ignore[assignment]
            for name, parameter in list(module.named_parameters()):
                setattr(module, name, nn.Parameter(parameter.to("meta")))


@pytest.mark.parametrize("load", [from_file, cast_from_file])
def test_weights_that_accelerate_wrote_to_disk_have_their_name_beside_a_second_model(
    sidecar: Attached, tmp_path: Path, load: Any
) -> None:
    (tmp_path / "offload").mkdir()
    models = [offloaded(load(tmp_path), tmp_path / "offload"), load(tmp_path)]
    assert names(sidecar) == ["base_v1", "base_v1"]
    on_meta(models[0], OffloadedWeightsLoader("/elsewhere", {}))  # new tensors, as after a forward pass
    assert names(sidecar) == ["base_v1", "base_v1"]


def test_weights_that_accelerate_reads_from_the_checkpoint_itself_have_its_name(sidecar: Attached, tmp_path: Path) -> None:
    file = str(tmp_path / "base_v1.safetensors")
    model = Backbone()
    index = {key: {"safetensors_file": file, "weight_name": key, "dtype": "float32"} for key in model.state_dict()}
    on_meta(model, OffloadedWeightsLoader("", index))
    (found,) = sidecar.models()
    assert (found.name, found.name_source, found.files) == ("base_v1", "read file", (file,))


def test_raw_values_that_nobody_saw_written_name_nothing_and_leave_the_model_whole(sidecar: Attached, tmp_path: Path) -> None:
    model = Backbone()
    on_meta(model, OffloadedWeightsLoader(str(tmp_path), {key: {"dtype": "float32"} for key in model.state_dict()}))
    (found,) = sidecar.models()
    assert (found.name, found.confidence, found.files, found.candidates) == ("Backbone", 0.0, (), ())


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("is_seen_before", [False, True])
def test_values_that_the_process_saves_and_loads_again_keep_their_name(
    sidecar: Attached, tmp_path: Path, assign: bool, is_seen_before: bool
) -> None:
    model = from_file(tmp_path)
    if is_seen_before:
        assert names(sidecar) == ["base_v1"]
    torch.save(model.state_dict(), tmp_path / "swap.pt")
    model.load_state_dict(torch.load(tmp_path / "swap.pt"), assign=assign)
    assert names(sidecar) == ["base_v1"]
    save_file(model.state_dict(), tmp_path / "swap.safetensors")
    state = load_file(tmp_path / "swap.safetensors")
    for key, value in state.items():
        owner, _, name = key.rpartition(".")
        setattr(model.get_submodule(owner), name, nn.Parameter(value))
    if is_seen_before:
        assert names(sidecar) == ["base_v1"]


def test_values_found_by_comparing_and_saved_and_loaded_again_keep_their_name(sidecar: Attached, tmp_path: Path) -> None:
    model = cast_from_file(tmp_path)
    assert names(sidecar) == ["base_v1"]
    torch.save(model.state_dict(), tmp_path / "swap.pt")
    model.load_state_dict(torch.load(tmp_path / "swap.pt"))
    assert names(sidecar) == ["base_v1"]


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("is_seen_before", [False, True])
def test_values_that_were_trained_and_saved_and_loaded_again_are_of_the_file_that_they_are_in(
    sidecar: Attached, tmp_path: Path, assign: bool, is_seen_before: bool
) -> None:
    """A trainer keeps its best weights in a file, and returns to them at the end."""
    model = from_file(tmp_path)
    if is_seen_before:
        assert names(sidecar) == ["base_v1"]
    train(model)
    torch.save(model.state_dict(), tmp_path / "mine_v1.pt")
    train(model)
    if is_seen_before:
        assert names(sidecar) == ["base_v1"]
    model.load_state_dict(torch.load(tmp_path / "mine_v1.pt"), assign=assign)
    assert names(sidecar) == ["mine_v1"]
    torch.save(model.state_dict(), tmp_path / "swap.pt")
    model.load_state_dict(torch.load(tmp_path / "swap.pt"), assign=assign)
    assert names(sidecar) == ["mine_v1"]
    train(model)
    assert names(sidecar) == ["mine_v1"]


def test_values_that_were_written_and_read_back_several_times_are_of_the_first_file(sidecar: Attached, tmp_path: Path) -> None:
    model = from_file(tmp_path)
    for number in range(3):
        torch.save(model.state_dict(), tmp_path / f"swap-{number}.pt")
        model.load_state_dict(torch.load(tmp_path / f"swap-{number}.pt"))
    assert names(sidecar) == ["base_v1"]


def test_values_that_are_saved_under_another_name_and_loaded_into_another_model_are_that_files(
    sidecar: Attached, tmp_path: Path
) -> None:
    """The copy is what somebody made to be used under its own name."""
    model, other = from_file(tmp_path), Backbone()
    save_file(model.state_dict(), tmp_path / "mine_v1.safetensors")
    other.load_state_dict(load_file(tmp_path / "mine_v1.safetensors"))
    torch.save(model, tmp_path / "pickled_v1.pt")
    unpickled = torch.load(tmp_path / "pickled_v1.pt", weights_only=False)
    assert sorted(names(sidecar)) == ["base_v1", "mine_v1", "pickled_v1"]
    del model, other, unpickled


def train(model: nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1e-3 * torch.randn_like(parameter))


def test_a_file_written_from_another_model_names_the_one_that_it_is_loaded_into(sidecar: Attached, tmp_path: Path) -> None:
    save_file(Backbone().state_dict(), tmp_path / "other_v1.safetensors")
    model = from_file(tmp_path)
    assert names(sidecar) == ["base_v1"]
    model.load_state_dict(load_file(tmp_path / "other_v1.safetensors"))
    assert names(sidecar) == ["other_v1"]
