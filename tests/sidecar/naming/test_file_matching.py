"""Models compared with files: by values where they can be read, by names and shapes where they can't."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from gpumodels.models.assembling import FoundModel
from gpumodels.naming import file_matching
from gpumodels.naming.evidence import MatchedFiles
from gpumodels.naming.model_inquiry import Sources
from modules import Attached, Backbone, attached


@pytest.fixture
def sidecar() -> Iterator[Attached]:
    with attached() as one:
        yield one


def written(path: Path, model: Backbone | None = None) -> str:
    """A safetensors file, of new values if no model is given, written long ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file((model or Backbone()).state_dict(), path)
    os.utime(path, (1e9, 1e9))
    return str(path)


def copied_unseen(path: str) -> Backbone:
    """A model with the file's values, which were read but not seen being loaded."""
    model, state = Backbone(), load_file(path)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.copy_(state[key])
    return model


class Matching:
    def __init__(self, sidecar: Attached) -> None:
        self.pauses = 0
        self.sources = Sources(sidecar.registry, sidecar.origin_tracker, sidecar.failures, self._pause)
        self._sidecar = sidecar

    def _pause(self) -> None:
        self.pauses += 1

    def found(self) -> FoundModel:
        (found,) = self._sidecar.scan()
        return found

    def match(
        self, stated: tuple[str, ...] = (), among: tuple[str, ...] | None = None, before: MatchedFiles | None = None
    ) -> MatchedFiles:
        found = self.found()
        return self.sources.matching.match(found, self.sources.samples.samples_of(found, (0,), None), stated, among, before)


def test_the_file_with_the_models_values_matches_and_others_do_not(sidecar: Attached, tmp_path: Path) -> None:
    base, other = written(tmp_path / "base_v1.safetensors"), written(tmp_path / "other_v1.safetensors")
    load_file(other)
    model = copied_unseen(base)
    matching = Matching(sidecar)
    matched = matching.match()
    assert (matched.paths, matched.contradicts_config) == ((base,), False)
    assert matched.match is not None
    assert matched.match.is_full
    assert matched.compared.keys() == {base, other}
    assert matching.pauses >= 2
    del model


class Quantized(nn.Module):
    """Blocks beside weights that aren't quantized, as in a GGUF file."""

    def __init__(self, packed: int) -> None:
        super().__init__()
        self.norms = nn.ParameterList(torch.randn(64) for _ in range(24))
        blocks = [torch.randint(256, (64, packed), dtype=torch.uint8) for _ in range(24)]
        self.blocks = nn.ParameterList(nn.Parameter(one, requires_grad=False) for one in blocks)


def test_of_several_quantizations_of_one_model_the_blocks_tell_which_it_is(sidecar: Attached, tmp_path: Path) -> None:
    small, large = Quantized(packed=72), Quantized(packed=136)
    large.norms = small.norms
    paths = [str(tmp_path / f"wan-{name}.safetensors") for name in ("Q4_0", "Q8_0")]
    for path, model in zip(paths, (small, large), strict=True):
        save_file(model.state_dict(), path)
        os.utime(path, (1e9, 1e9))
        load_file(path)
    del large, model
    held = nn.ModuleDict({"diffusion_model": small})  # so its keys aren't those of the files
    matched = Matching(sidecar).match()
    assert held
    assert matched.paths == (paths[0],)
    assert matched.match is not None
    assert matched.match.is_full


def test_the_same_values_are_not_compared_again(sidecar: Attached, tmp_path: Path) -> None:
    model = copied_unseen(written(tmp_path / "base_v1.safetensors"))
    matching = Matching(sidecar)
    before = matching.match()
    assert matching.match(before=before) is before
    with torch.no_grad():
        next(model.parameters()).mul_(2)
    assert matching.match(before=before) is not before


def test_a_file_that_is_younger_than_the_values_was_saved_from_them(sidecar: Attached, tmp_path: Path) -> None:
    model = Backbone()
    matching = Matching(sidecar)
    before = matching.match()
    assert before.paths == ()
    path = tmp_path / "mine_v1.safetensors"
    save_file(model.state_dict(), path)
    os.utime(path, (4e9, 4e9))
    load_file(path)
    assert matching.match(before=before).paths == ()


def test_files_that_a_config_names_are_compared_though_nobody_read_them(sidecar: Attached, tmp_path: Path) -> None:
    base = written(tmp_path / "tiny" / "model.safetensors")
    model = Backbone()
    model.load_state_dict({key: value.clone() for key, value in load_file(base).items()})
    sidecar.origin_tracker.files_read.drop_explained(lambda path: True)
    matched = Matching(sidecar).match(stated=(str(tmp_path / "tiny"),))
    assert matched.paths == (base,)


def test_a_config_is_contradicted_by_its_files_when_they_hold_other_values(sidecar: Attached, tmp_path: Path) -> None:
    written(tmp_path / "tiny" / "model.safetensors")
    model = Backbone()
    matched = Matching(sidecar).match(stated=(str(tmp_path / "tiny"),))
    assert (matched.paths, matched.contradicts_config) == ((), True)
    assert not Matching(sidecar).match(stated=(str(tmp_path / "nowhere"),)).contradicts_config
    del model


def test_out_of_reach_names_and_shapes_count_and_only_those_of_files_read_for_it(sidecar: Attached, tmp_path: Path) -> None:
    one, two = written(tmp_path / "one_v1.safetensors"), written(tmp_path / "two_v1.safetensors")
    load_file(one), load_file(two)
    with torch.device("meta"):
        model = Backbone()
    matching = Matching(sidecar)
    both = matching.match()
    assert (both.fingerprint, both.match, both.paths) == (None, None, (one, two))
    assert matching.match(among=(two,)).paths == (two,)
    assert matching.match(among=()).paths == ()
    del model


class Mixed(nn.Module):
    """Many small tensors, which are a third of it, and two large ones."""

    def __init__(self, is_tied: bool = False) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(nn.Linear(32, 32, bias=False) for _ in range(36))
        self.large = nn.ModuleList(nn.Linear(32, 1072, bias=False) for _ in range(2))
        if is_tied:
            self.large[1].weight = self.large[0].weight


class Mixture(nn.Module):
    """Many tensors of a mixture of experts: attention is a third of it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleDict({"attention": nn.Linear(32, 32, bias=False), "experts": nn.Linear(32, 64, bias=False)})
            for _ in range(150)
        )


def the_part(state: Mapping[str, torch.Tensor], part: str) -> dict[str, torch.Tensor]:
    return {key: value for key, value in state.items() if part in key}


def load_seen(model: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    model.load_state_dict(dict(state), strict=False)


def load_unseen(model: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key in state:
                parameter.copy_(state[key])


Load = Callable[[nn.Module, Mapping[str, torch.Tensor]], None]
BOTH_LOADS = pytest.mark.parametrize("load", [load_seen, load_unseen])


def a_file_of(directory: Path, name: str, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The values of a new file."""
    path = directory / f"{name}.safetensors"
    save_file({key: value.detach().clone() for key, value in state.items()}, path)
    os.utime(path, (1e9, 1e9))
    return dict(load_file(path))


@BOTH_LOADS
@pytest.mark.parametrize(("kind", "part"), [(Mixed, "encoder"), (Mixture, "attention")])
@pytest.mark.parametrize("is_in_file", [False, True])
def test_a_model_of_which_a_third_is_from_a_file_is_not_called_by_it_however_many_tensors_that_is(
    sidecar: Attached, tmp_path: Path, load: Load, kind: type[nn.Module], part: str, is_in_file: bool
) -> None:
    state = kind().state_dict()
    model = kind()
    load(model, the_part(a_file_of(tmp_path, "base_v1", state if is_in_file else the_part(state, part)), part))
    (found,) = sidecar.models()
    assert found.confidence < 0.6, (found.name, found.name_source)
    assert found.name == kind.__name__


@BOTH_LOADS
def test_a_model_of_which_two_thirds_are_from_a_file_is_called_by_it_however_few_tensors_that_is(
    sidecar: Attached, tmp_path: Path, load: Load
) -> None:
    model = Mixture()
    load(model, the_part(a_file_of(tmp_path, "base_v1", Mixture().state_dict()), "experts"))
    (found,) = sidecar.models()
    assert found.name == "base_v1"
    assert found.confidence == (0.75 if load is load_unseen else 0.95)


@BOTH_LOADS
def test_what_is_merged_into_the_larger_part_is_the_files_still(sidecar: Attached, tmp_path: Path, load: Load) -> None:
    model = Mixed()
    load(model, a_file_of(tmp_path, "base_v1", Mixed().state_dict()))
    with torch.no_grad():
        for weight in model.large.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    (found,) = sidecar.models()
    assert (found.name, found.matched_tensors, found.compared_tensors) == ("base_v1", 36, 38)
    assert found.confidence == (0.75 if load is load_unseen else 0.95)


def test_a_model_trained_from_a_file_that_was_read_is_called_by_its_own(sidecar: Attached, tmp_path: Path) -> None:
    """They share what was frozen, and the rest is alike."""
    base = a_file_of(tmp_path, "base_v1", Mixed().state_dict())
    tuned = {key: value if "encoder" in key else value * 1.01 for key, value in base.items()}
    tune = a_file_of(tmp_path, "tune_v1", tuned)
    model = Mixed()
    load_unseen(model, tune)
    (found,) = sidecar.models()
    assert (found.name, found.confidence, found.candidates) == ("tune_v1", 0.97, ())


def test_what_was_merged_and_unmerged_in_most_tensors_has_its_name_again(sidecar: Attached, tmp_path: Path) -> None:
    model = Mixture()
    load_unseen(model, a_file_of(tmp_path, "base_v1", Mixture().state_dict()))
    updates = {key: torch.randn(value.shape) for key, value in model.named_parameters() if "experts" in key or ".1" in key}
    with torch.no_grad():
        for sign in (1, -1):
            for key, update in updates.items():
                model.get_parameter(key).add_(sign * update)
    (found,) = sidecar.models()
    assert (found.name, found.confidence) == ("base_v1", 0.97)


def test_what_was_merged_and_unmerged_in_all_tensors_has_its_name_again_if_it_says_which(
    sidecar: Attached, tmp_path: Path
) -> None:
    base = written(tmp_path / "tiny" / "model.safetensors")
    model = copied_unseen(base)
    with torch.no_grad():
        for parameter in model.parameters():
            update = torch.randn_like(parameter) / 4  # larger than the values: what is lost of them is lost of nearly all
            parameter.add_(update).sub_(update)
    matched = Matching(sidecar).match(stated=(str(tmp_path / "tiny"),))
    assert (matched.paths, matched.contradicts_config) == ((base,), False)
    assert matched.match is not None
    assert matched.match.is_full
    assert Matching(sidecar).match().paths == ()  # among all files, only few are compared so closely


class Scaled(nn.Module):
    """Of each three tensors two are small: a LoRA changes only the third, which is nearly all of it."""

    def __init__(self) -> None:
        super().__init__()
        parts = {"before": 1, "linear": 64, "after": 1}
        self.layers = nn.ModuleList(
            nn.ModuleDict({key: nn.Linear(32, rows, bias=False) for key, rows in parts.items()}) for _ in range(150)
        )


@pytest.mark.parametrize(("changed", "name"), [("linear", "base_v1"), ("linear after before.weight", "Scaled")])
def test_where_too_many_tensors_may_be_the_renamed_ones_the_samples_decide(
    sidecar: Attached, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str, name: str
) -> None:
    monkeypatch.setattr(file_matching, "agreement", lambda *_, **__: None)
    model = Scaled()
    load_unseen(model, a_file_of(tmp_path, "base_v1", Scaled().state_dict()))
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.split(".")[2] in changed and not key.startswith("layers.1"):
                parameter.add_(0.02 * torch.randn_like(parameter))
    (found,) = sidecar.models()
    assert found.name == name


@BOTH_LOADS
def test_the_larger_part_set_anew_costs_the_name(sidecar: Attached, tmp_path: Path, load: Load) -> None:
    model = Mixed()
    load(model, a_file_of(tmp_path, "base_v1", Mixed().state_dict()))
    assert sidecar.models()[0].name == "base_v1"
    with torch.no_grad():
        for weight in model.large.parameters():
            weight.normal_()
    (found,) = sidecar.models()
    assert (found.name, found.confidence) == ("Mixed", 0.0)


@BOTH_LOADS
def test_tied_weights_count_once(sidecar: Attached, tmp_path: Path, load: Load) -> None:
    state = Mixed(is_tied=True).state_dict()
    assert state["large.0.weight"].data_ptr() == state["large.1.weight"].data_ptr()
    model = Mixed(is_tied=True)
    load(model, the_part(a_file_of(tmp_path, "base_v1", state), "encoder"))
    (found,) = sidecar.models()
    assert found.name == "base_v1"  # 36,864 of 71,168 elements


@BOTH_LOADS
def test_an_embedding_alone_does_not_make_a_model_the_files(sidecar: Attached, tmp_path: Path, load: Load) -> None:
    """However large it is: a draft model that has its target's embedding isn't its target."""
    model = nn.Sequential(nn.Embedding(4000, 32), *(nn.Linear(32, 32, bias=False) for _ in range(12)))
    state = {key: torch.randn(value.shape) for key, value in model.state_dict().items()}
    load(model, the_part(a_file_of(tmp_path, "base_v1", state), "0.weight"))
    with torch.no_grad():
        list(model.parameters())[10].normal_()
    (found,) = sidecar.models()
    assert found.confidence < 0.6, (found.name, found.name_source)


def test_a_model_of_two_files_has_both_as_candidates_though_one_has_a_single_tensor_of_it(
    sidecar: Attached, tmp_path: Path
) -> None:
    model, state = Mixed(is_tied=True), Mixed().state_dict()
    load_unseen(model, a_file_of(tmp_path, "encoder_v1", the_part(state, "encoder")))
    load_unseen(model, a_file_of(tmp_path, "large_v1", the_part(state, "large.0")))
    (found,) = sidecar.models()
    assert (found.name, found.confidence) == ("Mixed", 0.5)
    assert [Path(path).stem for path in found.candidates] == ["encoder_v1", "large_v1"]
