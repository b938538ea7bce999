"""Where values came from that `load_state_dict` brought, all of them or some."""

from __future__ import annotations

import copy
from collections import UserDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from gpumodels.provenance.origin import STATE_DICT
from loads import a_file, origins, the_model
from modules import Backbone, attached
from work import counted


def test_values_from_elsewhere_end_what_was_known_of_the_tensors(tmp_path: Path) -> None:
    with attached() as sidecar:
        model = Backbone()
        model.load_state_dict(load_file(a_file(tmp_path / "first.safetensors")), assign=True)
        assert the_model(sidecar).name == "first"
        model.load_state_dict({key: torch.randn_like(value) for key, value in model.state_dict().items()})
        found = the_model(sidecar)
        assert (found.name, found.confidence) == ("Backbone", 0.0)
        assert found.files == ()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("form", ["script", "trace"])
def test_a_file_loaded_into_a_model_in_torchscript_gives_its_name_and_casts_keep_it(form: str, tmp_path: Path) -> None:
    jit: Any = torch.jit
    with attached() as sidecar:
        made = nn.Sequential(nn.Linear(256, 256), nn.Linear(256, 256))
        path = a_file(tmp_path / "mine.safetensors", made)
        model = jit.script(made) if form == "script" else jit.trace(made, torch.zeros(1, 256))
        model.load_state_dict({key: value + 1 for key, value in load_file(path).items()})
        assert the_model(sidecar).confidence < 0.6
        model.load_state_dict(load_file(path))
        for cast in (model.half, model.float):
            found = the_model(sidecar)
            assert (found.name, found.name_source, found.confidence) == ("mine", "state dict", 0.95)
            cast()
        assert sidecar.failures.count == 0


def test_a_second_file_copied_over_a_mapped_first_one_gives_its_name(tmp_path: Path) -> None:
    with attached() as sidecar:
        model = Backbone()
        model.load_state_dict(load_file(a_file(tmp_path / "first.safetensors")), assign=True)
        model.load_state_dict(load_file(a_file(tmp_path / "second.safetensors")))
        assert the_model(sidecar).name == "second"
        assert origins(sidecar, model) == {"second.safetensors"}


def test_a_models_own_state_dict_loaded_again_changes_nothing(tmp_path: Path) -> None:
    with attached() as sidecar:
        model = Backbone()
        model.load_state_dict(load_file(a_file(tmp_path / "mine.safetensors")))
        model.load_state_dict(model.state_dict())
        other = Backbone()
        other.load_state_dict(copy.copy(model.state_dict()))
        assert [found.name for found in sidecar.models()] == ["mine", "mine"]


def test_a_load_that_raised_is_noted_for_what_fits(tmp_path: Path) -> None:
    with attached() as sidecar:
        model = Backbone()
        state = load_file(a_file(tmp_path / "mine.safetensors"))
        with pytest.raises(RuntimeError, match="Unexpected key"):
            model.load_state_dict({**state, "surplus": torch.zeros(1)})
        del state
        assert the_model(sidecar).name == "mine"
        assert len(sidecar.hooks.loads._calls) == 0


def test_looking_at_a_state_dict_costs_a_few_steps_a_tensor() -> None:
    state = {f"{i}.weight": torch.randn(64, 64) for i in range(1000)}
    with attached() as sidecar:
        with counted() as work:
            sidecar.hooks.loads._tensors_of(state)
        assert work.steps < 60 * len(state)


def test_only_what_was_given_has_its_origin(tmp_path: Path) -> None:
    with attached() as sidecar:
        model: Any = Backbone(2)
        state = load_file(a_file(tmp_path / "mine.safetensors", Backbone(1)))
        model.load_state_dict({key: value for key, value in state.items() if ".q." in key}, strict=False)
        assert origins(sidecar, model.blocks[0].q) == {"mine.safetensors"}
        assert origins(sidecar, model.blocks[0].k) == origins(sidecar, model.blocks[1]) == {"unknown"}


def test_a_tensor_that_does_not_fit_is_not_from_the_file_and_those_that_fit_are(tmp_path: Path) -> None:
    with attached() as sidecar:
        model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 32))
        state = load_file(a_file(tmp_path / "mine.safetensors", nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 48))))
        with pytest.raises(RuntimeError, match="size mismatch"):
            model.load_state_dict(state)
        sidecar.hooks.loads.finish_raised_loads()
        assert origins(sidecar, model[0]) == {"mine.safetensors"}
        assert origins(sidecar, model[1]) == {"unknown"}


def test_what_is_no_dictionary_is_not_looked_into_and_ends_what_was_known(tmp_path: Path) -> None:
    with attached() as sidecar:
        model = Backbone()
        model.load_state_dict(load_file(a_file(tmp_path / "first.safetensors")))
        path = a_file(tmp_path / "second.safetensors")
        model.load_state_dict(UserDict(load_file(path)))
        assert "first.safetensors" not in origins(sidecar, model)
        assert sidecar.origin_tracker.files_read_before_load(model) == (str(path),)
        model.load_state_dict(load_file(path))
        assert sidecar.origin_tracker.files_read_before_load(model) is None
        assert origins(sidecar, model) == {"second.safetensors"}


def test_tensors_that_are_assigned_keep_their_origin_and_those_that_are_copied_say_how_they_came(tmp_path: Path) -> None:
    def how(model: nn.Linear) -> Any:
        return sidecar.origin_tracker.origin_of(model.weight, model.weight.untyped_storage()).source  # type: ignore[union-attr]

    path = a_file(tmp_path / "mine.safetensors", nn.Linear(64, 64))
    with attached() as sidecar:
        assigned, copied = nn.Linear(64, 64), nn.Linear(64, 64)
        assigned.load_state_dict(load_file(path), assign=True)
        copied.load_state_dict(load_file(path))
        assert how(assigned) != STATE_DICT
        assert how(copied) == STATE_DICT


def test_a_load_is_told_once_with_the_module_that_was_loaded_into(tmp_path: Path) -> None:
    with attached() as sidecar:
        model = Backbone()
        state = load_file(a_file(tmp_path / "mine.safetensors"))
        sidecar.registry.take_changes()
        version = sidecar.origin_tracker.version
        model.load_state_dict(state)
        assert not sidecar.registry.only_moved()
        assert sidecar.registry.take_changes().touched == (id(model),)
        assert sidecar.origin_tracker.version == version + 1


def test_nothing_is_noted_once_it_is_closed(tmp_path: Path) -> None:
    with attached() as sidecar:
        model = Backbone()
        state = load_file(a_file(tmp_path / "mine.safetensors"))
        sidecar.origin_tracker.close()
        model.load_state_dict(state)
        assert origins(sidecar, model) == {"unknown"}
        assert sidecar.failures.count == 0


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_pefts_hot_swap_gives_an_adapter_the_second_files_origin_unless_it_refuses(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    hotswap = pytest.importorskip("peft.utils.hotswap")

    def adapted(**options: Any) -> Any:
        torch.manual_seed(1)
        return peft.get_peft_model(Backbone(), peft.LoraConfig(target_modules=["q"], init_lora_weights=False, **options))

    with attached() as sidecar:
        for name, targets in (("first", ["q"]), ("second", ["q"]), ("other", ["q", "k"])):
            config = peft.LoraConfig(target_modules=targets, init_lora_weights=False)
            peft.get_peft_model(Backbone(), config).save_pretrained(tmp_path / name)
        model: Any = peft.PeftModel.from_pretrained(Backbone(), tmp_path / "first")

        def files() -> set[tuple[str, str]]:
            loras = [found for found in sidecar.models() if found.kind == "lora"]
            return {(Path(path).parent.name, found.name_source) for found in loras for path in found.files}

        assert files() == {("first", "state dict")}
        hotswap.hotswap_adapter(model, tmp_path / "second", adapter_name="default")
        assert files() == {("second", "state dict")}
        with pytest.raises(RuntimeError, match="unexpected keys"):
            hotswap.hotswap_adapter(model, tmp_path / "other", adapter_name="default")
        assert files() == {("second", "state dict")}
        compiled = torch.compile(model)
        hotswap.hotswap_adapter(compiled, tmp_path / "first", adapter_name="default")
        assert files() == {("first", "state dict")}
        assert len(sidecar.hooks.loads._swaps) == 0


def test_samples_from_before_a_load_that_shows_no_values_are_forgotten(tmp_path: Path) -> None:
    with attached() as sidecar:
        load_file(a_file(tmp_path / "first.safetensors"))  # from now on, what moves is sampled
        model = Backbone().to("meta")
        tensors = sidecar.origin_tracker.tensors
        weight = model.blocks[0].q.weight  # type: ignore[union-attr]
        assert tensors.sample(tensors.storage_of(weight), weight) is not None  # type: ignore[arg-type]
        model.load_state_dict(Backbone().to("meta").state_dict())
        assert tensors.sample(tensors.storage_of(weight), weight) is None  # type: ignore[arg-type]
