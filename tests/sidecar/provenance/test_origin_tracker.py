from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from loads import a_file, long_ago, origins, the_model
from modules import Backbone, attached

safetensors = pytest.importorskip("safetensors.torch")
safetensors_numpy = pytest.importorskip("safetensors.numpy")
load_file, save_file = safetensors.load_file, safetensors.save_file


def test_data_that_is_put_into_a_known_tensor_brings_its_own_origin_or_none(tmp_path: Path) -> None:
    with attached() as sidecar:
        model = Backbone()
        model.load_state_dict(load_file(a_file(tmp_path / "first.safetensors")))
        state = load_file(a_file(tmp_path / "second.safetensors"))
        for key, parameter in model.named_parameters():
            parameter.data = state[key]
        assert origins(sidecar, model) == {"second.safetensors"}
        model.half()
        assert origins(sidecar, model) == {"second.safetensors"}
        for parameter in model.parameters():
            parameter.data = torch.zeros_like(parameter)
        assert origins(sidecar, model) == {"unknown"}


def test_nothing_refers_weakly_to_a_tensor_that_is_known(tmp_path: Path) -> None:
    swap_tensors: Any = torch.utils.swap_tensors
    with attached() as sidecar:
        model = nn.Linear(64, 64)
        model.load_state_dict(load_file(a_file(tmp_path / "mine.safetensors", nn.Linear(64, 64))))
        sidecar.models()
        assert weakref.getweakrefcount(model.weight) == 0
        swap_tensors(model.weight, nn.Parameter(torch.zeros(64, 64)))
        assert origins(sidecar, model) == {"unknown", "mine.safetensors"}  # the bias is still the file's


def test_a_name_stays_when_the_tensors_are_replaced_and_ends_when_another_file_is_loaded(tmp_path: Path) -> None:
    with attached() as sidecar:
        model = Backbone()
        model.load_state_dict(load_file(a_file(tmp_path / "mine.safetensors")))
        assert the_model(sidecar).name == "mine"
        for module in [*model.modules()]:
            for name, parameter in [*module.named_parameters(recurse=False)]:
                setattr(module, name, nn.Parameter(parameter.detach() + 0.1))
        patched = the_model(sidecar)
        assert (patched.name, patched.confidence) == ("mine", 0.95)
        model.load_state_dict(load_file(a_file(tmp_path / "other.safetensors")))
        assert the_model(sidecar).name == "other"


def test_values_that_were_another_files_meanwhile_are_named_by_neither_once_they_are_mixed(tmp_path: Path) -> None:
    one, other = (load_file(a_file(tmp_path / f"{name}.safetensors")) for name in ("one", "other"))

    def put(values: dict[str, torch.Tensor]) -> None:
        for key, value in values.items():
            module, _, name = key.rpartition(".")
            setattr(model.get_submodule(module), name, nn.Parameter(value.clone()))

    mixed = {key: (value + other[key]) / 2 for key, value in one.items()}
    with attached() as sidecar:
        model = Backbone()
        model.load_state_dict(load_file(tmp_path / "one.safetensors"))
        assert the_model(sidecar).name == "one"
        Backbone().load_state_dict(load_file(tmp_path / "other.safetensors"))
        for values, name, confidence in (
            (other, "other", 0.97),
            (mixed, "Backbone", 0.0),
            (one, "one", 0.97),
            (mixed, "Backbone", 0.0),
        ):
            put(values)
            found = the_model(sidecar)
            assert (found.name, found.confidence) == (name, confidence)


def test_merged_weights_are_told_from_untouched_ones(tmp_path: Path) -> None:
    with attached() as sidecar:
        path = a_file(tmp_path / "base_v1.safetensors")
        state = {key: value.half() for key, value in load_file(path).items()}
        for key in [key for key in state if key.startswith("blocks.0.q")]:
            state[key] = state[key] + 0.1
        model = Backbone().half()
        model.load_state_dict(state)
        found = the_model(sidecar)
        assert (found.name, found.name_source, found.confidence) == ("base_v1", "values", 0.75)
        assert (found.matched_samples, found.compared_samples) == (10, 12)


def test_a_file_and_its_copy_in_another_precision_are_one_name_and_no_file(tmp_path: Path) -> None:
    with attached() as sidecar:
        path = a_file(tmp_path / "mine_v1.safetensors")
        state = {key: value.half() for key, value in load_file(path).items()}
        save_file(state, tmp_path / "mine_v1_fp16.safetensors")
        load_file(long_ago(tmp_path / "mine_v1_fp16.safetensors"))
        model = Backbone().half()
        model.load_state_dict({key: value.clone() for key, value in state.items()})
        found = the_model(sidecar)
        assert (found.name, found.name_source, found.files) == ("mine_v1", "values", ())
        assert [Path(path).name for path in found.candidates] == ["mine_v1.safetensors", "mine_v1_fp16.safetensors"]


def test_files_of_other_names_with_the_same_values_are_candidates_and_no_name(tmp_path: Path) -> None:
    with attached() as sidecar:
        state = {key: value.half() for key, value in Backbone().state_dict().items()}
        for name in ("one", "other"):
            save_file(state, tmp_path / f"{name}.safetensors")
            load_file(long_ago(tmp_path / f"{name}.safetensors"))
        model = Backbone().half()
        model.load_state_dict({key: value.clone() for key, value in state.items()})
        found = the_model(sidecar)
        assert (found.name, found.name_source) == ("Backbone", "class")
        assert len(found.candidates) == 2


def test_a_model_saved_after_it_was_seen_is_not_named_by_what_it_was_saved_to(tmp_path: Path) -> None:
    with attached() as sidecar:
        model = Backbone()
        first = the_model(sidecar)
        assert first.fingerprint is not None
        path = tmp_path / "saved.safetensors"
        save_file(model.state_dict(), path)
        load_file(path)
        again = the_model(sidecar)
        assert again.name == "Backbone"
        assert again.fingerprint == first.fingerprint


def test_the_shards_of_a_checkpoint_are_compared_as_one(tmp_path: Path) -> None:
    with attached() as sidecar:
        state = Backbone().state_dict()
        for number in (1, 2):
            part = {key: value for key, value in state.items() if ("blocks.0" in key) == (number == 1)}
            save_file(part, tmp_path / f"big-0000{number}-of-00002.safetensors")
            load_file(long_ago(tmp_path / f"big-0000{number}-of-00002.safetensors"))
        model = Backbone().half()
        model.load_state_dict({key: value.half() for key, value in state.items()})
        found = the_model(sidecar)
        assert (found.name, found.name_source, len(found.files)) == ("big", "values", 2)


def test_the_shards_of_a_pickled_checkpoint_are_compared_as_one_too(tmp_path: Path) -> None:
    with attached() as sidecar:
        state = Backbone().state_dict()
        for number in (1, 2):
            part = {key: value for key, value in state.items() if ("blocks.0" in key) == (number == 1)}
            torch.save(part, tmp_path / f"big-0000{number}-of-00002.bin")
            torch.load(long_ago(tmp_path / f"big-0000{number}-of-00002.bin"))
        model = Backbone().half()
        model.load_state_dict({key: value.half() for key, value in state.items()})
        found = the_model(sidecar)
        assert (found.name, found.name_source, len(found.files)) == ("big", "values", 2)


def test_a_file_that_went_or_was_damaged_is_no_evidence_and_no_failure(tmp_path: Path) -> None:
    with attached() as sidecar:
        for name in ("gone", "damaged"):
            load_file(a_file(tmp_path / f"{name}.safetensors"))
        (tmp_path / "gone.safetensors").unlink()
        (tmp_path / "damaged.safetensors").write_bytes(b"\xff" * 100)
        model = Backbone()
        assert the_model(sidecar).name == "Backbone"
        assert sidecar.failures.count == 0
        assert model is not None


def test_nothing_of_what_is_remembered_keeps_a_tensor_alive(tmp_path: Path) -> None:
    with attached() as sidecar:
        model = Backbone()
        model.load_state_dict(torch.load(_saved(tmp_path / "mine.pt")))
        model.half()
        sidecar.models()
        tensors = sidecar.origin_tracker.tensors
        assert len(tensors) > 0
        del model
        gc.collect()
        assert len(tensors) == len(tensors._samples) == 0


def _saved(path: Path) -> Path:
    torch.save(Backbone().state_dict(), path)
    return path


def a_bert(directory: Path, **options: object) -> Any:
    transformers = pytest.importorskip("transformers")
    if not directory.exists():
        config = transformers.BertConfig(
            hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128, vocab_size=500
        )
        transformers.BertModel(config).save_pretrained(directory)
    model = transformers.BertModel.from_pretrained(directory, **options)
    model.config._name_or_path = ""
    return model


def an_autoencoder(directory: Path, **options: object) -> Any:
    diffusers = pytest.importorskip("diffusers")
    if not directory.exists():
        diffusers.AutoencoderKL(block_out_channels=(32,), norm_num_groups=8).save_pretrained(directory)
    model = diffusers.AutoencoderKL.from_pretrained(directory, **options)
    model.register_to_config(_name_or_path="")
    return model


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("load", [a_bert, an_autoencoder])
@pytest.mark.parametrize("change", ["nothing", "cast on load", "half", "there and back", "in shards"])
def test_what_save_pretrained_writes_is_byte_for_byte_the_same(tmp_path: Path, load: Callable[..., Any], change: str) -> None:
    load(tmp_path / "source")

    def written(folder: str) -> dict[str, bytes]:
        torch.manual_seed(3)
        model = load(tmp_path / "source", **({"torch_dtype": torch.float16} if change == "cast on load" else {}))
        if change in ("half", "there and back"):
            model = model.half()
        if change == "there and back":
            model = model.to(torch.bfloat16).to("cpu").float()
        model.save_pretrained(tmp_path / folder, **({"max_shard_size": "100KB"} if change == "in shards" else {}))
        torch.save(model.state_dict(), tmp_path / folder / "model.pt")
        return {file.name: file.read_bytes() for file in sorted((tmp_path / folder).iterdir())}

    plain = written("plain")
    with attached() as sidecar:
        watched = written("watched")
        sidecar.models()
        assert sidecar.failures.count == 0
    assert set(plain) >= {"model.pt", "config.json"}
    assert (sum(name.endswith(".safetensors") for name in plain) > 1) == (change == "in shards")
    assert watched == plain
