"""Models that took weights of another model: each is named by its own, while the other lives and after."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from gpumodels.models.shared_weights import SharedWeightsFinder, own_weights
from loads import a_file
from modules import Attached, Backbone, attached


class Speaker(nn.Module):
    """A language model, most of it in its tables."""

    def __init__(self, blocks: int = 4) -> None:
        super().__init__()
        self.embed = nn.Embedding(2048, 256)
        self.layers = Backbone(blocks)
        self.head = nn.Linear(256, 2048, bias=False)


@pytest.fixture
def sidecar() -> Iterator[Attached]:
    with attached() as one:
        yield one
        assert one.failures.count == 0


def loaded(path: Path, blocks: int = 4, assign: bool = True) -> Speaker:
    model = Speaker(blocks)
    model.load_state_dict(load_file(a_file(path, Speaker(blocks))), assign=assign)
    return model


def take_parameters(draft: Speaker, target: Speaker) -> None:
    draft.embed.weight, draft.head.weight = target.embed.weight, target.head.weight


def take_modules(draft: Speaker, target: Speaker) -> None:
    draft.embed, draft.head = target.embed, target.head


def take_the_embedding(draft: Speaker, target: Speaker) -> None:
    draft.embed.weight = target.embed.weight


def take_data(draft: Speaker, target: Speaker) -> None:
    draft.embed.weight.data, draft.head.weight.data = target.embed.weight.data, target.head.weight.data


def names(sidecar: Attached) -> list[str]:
    return [model.name for model in sorted(sidecar.models(), key=lambda model: model.id)]


@pytest.mark.parametrize("take", [take_parameters, take_modules, take_the_embedding, take_data])
@pytest.mark.parametrize("is_draft_first", [False, True])
def test_a_draft_that_took_its_targets_tables_keeps_its_name_and_so_does_the_target(
    sidecar: Attached, tmp_path: Path, take: Callable[[Speaker, Speaker], None], is_draft_first: bool
) -> None:
    files = {"target": (tmp_path / "target_v1.safetensors", 4), "draft": (tmp_path / "draft_v1.safetensors", 1)}
    order = ["draft", "target"] if is_draft_first else ["target", "draft"]
    models = {name: loaded(*files[name]) for name in order}
    assert names(sidecar) == [f"{name}_v1" for name in order]
    take(models["draft"], models["target"])
    found = sidecar.models()
    assert {model.name for model in found} == {"draft_v1", "target_v1"}
    assert all([Path(path).stem for path in model.files] == [model.name] for model in found)
    assert all(model.matched_samples is None for model in found), "nothing of its own was changed"
    del models["target"]
    gc.collect()
    (draft,) = sidecar.models()
    assert (draft.name, [Path(path).stem for path in draft.files]) == ("draft_v1", ["draft_v1"])
    models["draft"].half()
    assert names(sidecar) == ["draft_v1"], "what it took is known wherever it is moved"


def test_what_is_loaded_over_shared_weights_is_the_models_own_again(sidecar: Attached, tmp_path: Path) -> None:
    target, draft = loaded(tmp_path / "target_v1.safetensors"), loaded(tmp_path / "draft_v1.safetensors", 1)
    take_parameters(draft, target)
    sidecar.models()
    del target
    gc.collect()
    tables = load_file(a_file(tmp_path / "tables_v1.safetensors", Speaker(1)))
    draft.load_state_dict(tables, assign=True)
    (found,) = sidecar.models()
    assert found.name == "tables_v1"
    (plain,) = sidecar.scan()
    assert plain.shared_weights is None


def test_a_draft_without_a_file_of_its_own_is_nobodys(sidecar: Attached, tmp_path: Path) -> None:
    target, draft = loaded(tmp_path / "target_v1.safetensors"), Speaker(1)
    take_parameters(draft, target)
    assert sorted(names(sidecar)) == ["Speaker", "target_v1"]
    del target
    gc.collect()
    (found,) = sidecar.models()
    assert (found.name, found.confidence, found.files) == ("Speaker", 0.0, ())


def test_a_draft_that_was_loaded_unseen_is_compared_by_its_own_values(sidecar: Attached, tmp_path: Path) -> None:
    target, draft = loaded(tmp_path / "target_v1.safetensors"), Speaker(1)
    state = load_file(a_file(tmp_path / "draft_v1.safetensors", Speaker(1)))
    for key, parameter in draft.named_parameters():
        parameter.data.copy_(state[key])
    take_parameters(draft, target)
    found = {model.name: model for model in sidecar.models()}
    assert found.keys() == {"target_v1", "draft_v1"}
    assert (found["draft_v1"].name_source, found["draft_v1"].confidence) == ("values", 0.97)


def test_two_objects_around_the_same_weights_have_the_same_name(sidecar: Attached, tmp_path: Path) -> None:
    first, second = loaded(tmp_path / "target_v1.safetensors"), Speaker()
    second.load_state_dict(first.state_dict(), assign=True)
    for model in (first, second):
        model.register_buffer("positions", torch.rand(20_000))
    assert names(sidecar) == ["target_v1", "target_v1"]


def test_an_encoder_and_a_decoder_of_two_files_whose_embeddings_are_tied_have_each_their_own_name(
    sidecar: Attached, tmp_path: Path
) -> None:
    both = nn.Module()
    both.encoder = loaded(tmp_path / "encoder_v1.safetensors", 1)
    both.decoder = loaded(tmp_path / "decoder_v1.safetensors", 1)
    both.decoder.embed.weight = both.encoder.embed.weight
    both.decoder.head.weight = both.encoder.head.weight
    assert names(sidecar) == ["encoder_v1", "decoder_v1"]


def with_config(model: Speaker, directory: Path) -> Speaker:
    model.__dict__["config"] = {"_name_or_path": str(directory)}
    return model


def test_a_draft_that_took_tables_before_anything_was_seen_isnt_called_by_their_file(sidecar: Attached, tmp_path: Path) -> None:
    for name in ("target", "draft"):
        (tmp_path / name).mkdir()
    target = with_config(loaded(tmp_path / "target" / "model.safetensors"), tmp_path / "target")
    draft = with_config(loaded(tmp_path / "draft" / "model.safetensors", 1), tmp_path / "draft")
    take_parameters(draft, target)
    del target
    gc.collect()
    (found,) = sidecar.models()
    assert (found.name, found.confidence) == ("Speaker", 0.5)
    assert {Path(path).parent.name for path in found.candidates} == {"target", "draft"}


def test_what_was_loaded_into_most_of_a_model_names_it_whatever_its_config_says(sidecar: Attached, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    model = with_config(loaded(tmp_path / "base" / "model.safetensors", 1), tmp_path / "base")
    tune = load_file(a_file(tmp_path / "tune_v1.safetensors", Speaker(1)))
    model.load_state_dict({key: value for key, value in tune.items() if "layers" not in key}, strict=False)
    (found,) = sidecar.models()
    assert found.name == "tune_v1"


def test_an_unchanged_model_is_the_same_object_as_before(sidecar: Attached, tmp_path: Path) -> None:
    target, draft = loaded(tmp_path / "target_v1.safetensors"), loaded(tmp_path / "draft_v1.safetensors", 1)
    take_parameters(draft, target)
    before = sidecar.scan()
    assert all(one is other for one, other in zip(before, sidecar.scan(), strict=True))
    assert all(one.shared_weights is not None for one in before)
    sizes = {one.held_bytes - own_weights(one).total_bytes for one in before}
    assert sizes == {2 * 2048 * 256 * 4}


def test_models_that_share_nothing_are_not_gone_through() -> None:
    with attached() as sidecar:
        kept = [Backbone(), Backbone()]
        found = sidecar.scan()
        finder = SharedWeightsFinder()
        assert not list(finder.update(found, {}))
        assert finder.found == found
        del kept
