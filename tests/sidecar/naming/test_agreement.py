"""How a model's values agree with its file, on state dicts that stand in for both; and how often that is looked at."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from gpumodels.models.assembling import FoundModel
from gpumodels.naming.agreement import Agreement, agreement, correlation
from gpumodels.naming.model_samples import ModelTensor, SampleReader
from gpumodels.provenance.files_read import FilesRead, JoinedFiles, SampledFile
from gpumodels.provenance.host_samples import TensorSampler
from gpumodels_shared.schema import TensorSample
from modules import Backbone, attached

State = Mapping[str, torch.Tensor]
SAMPLER = TensorSampler(torch)


def samples(state: State) -> list[TensorSample]:
    taken = {key: SAMPLER.take(tensor) for key, tensor in state.items()}
    return [TensorSample(key, *sample) for key, sample in taken.items() if sample is not None]


def as_file(state: State) -> SampledFile:
    taken = {key: SAMPLER.take(tensor) for key, tensor in state.items()}
    return SampledFile({key: sample for key, sample in taken.items() if sample is not None})


def a_state(seed: int, layers: int = 12) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {f"blocks.{layer}.weight": torch.randn(32, 32, generator=generator) for layer in range(layers)}


def agreed(state: State, *files: State, **options: int) -> Agreement | None:
    return agreement(samples(state), [as_file(file) for file in files], lambda: None, **options)


def test_what_was_loaded_and_cast_agrees_in_full() -> None:
    state = a_state(1)
    assert agreed({key: value.half() for key, value in state.items()}, state) == Agreement(12, 12, 0)
    renamed = {f"model.{key}": value for key, value in state.items()}
    assert agreed(state, renamed) == Agreement(12, 12, 0)


def test_merged_and_trained_weights_are_related_and_others_refute_the_file() -> None:
    state = a_state(1)
    merged = {
        key: value + 0.05 * torch.randn(32, 32) if number % 3 == 0 else value for number, (key, value) in enumerate(state.items())
    }
    patched = agreed(merged, state)
    assert patched == Agreement(12, 8, 4)
    assert patched.is_patched
    trained = agreed({key: value + 0.05 * torch.randn(32, 32) for key, value in state.items()}, state)
    assert trained == Agreement(12, 0, 12)
    assert not trained.is_refuted
    assert not trained.is_patched
    other = agreed(a_state(2), state)
    assert other == Agreement(12, 0, 0)
    assert other.is_refuted


def test_half_of_another_model_is_related_no_more() -> None:
    state, other = a_state(1), a_state(2)
    mixed = agreed({key: 0.5 * value + 0.5 * other[key] for key, value in state.items()}, state)
    assert mixed is not None
    assert mixed.is_refuted


def test_renamed_and_changed_weights_are_related_by_the_most_alike_tensor_alone() -> None:
    state = a_state(1)
    renamed = {key.replace("blocks", "layers"): value for key, value in state.items()}
    assert agreed({key: value + 0.01 * torch.randn(32, 32) for key, value in state.items()}, renamed) == Agreement(12, 0, 12)
    assert agreed(a_state(2), renamed) == Agreement(12, 0, 0)


def test_what_the_file_has_nothing_of_does_not_count_and_quantized_weights_say_nothing() -> None:
    state = a_state(1)
    assert agreed({**state, "head.weight": torch.randn(7, 33)}, state) == Agreement(12, 12, 0)
    quantized = {key: (value * 100).to(torch.int8) for key, value in state.items()}
    assert agreed(quantized, state) == Agreement(0, 0, 0)
    assert not Agreement(0, 0, 0).is_refuted
    assert agreed(quantized, quantized) == Agreement(12, 12, 0)


def test_files_together_are_what_a_model_is_made_of() -> None:
    state = a_state(1)
    halves = [dict(list(state.items())[start::2]) for start in (0, 1)]
    assert agreed(state, *halves) == Agreement(12, 12, 0)


def test_what_would_take_too_long_is_not_known() -> None:
    renamed = {key.replace("blocks", "layers"): value for key, value in a_state(2).items()}
    assert agreed(a_state(1), renamed, max_comparisons=20) is None


@pytest.mark.parametrize(
    ("other", "expected"),
    [([1.0, 2.0, 3.0], 1.0), ([3.0, 2.0, 1.0], -1.0), ([5.0, 5.0, 5.0], 0.0), ([1.0, 2.0, float("nan")], 0.0)],
)
def test_correlation_is_pearsons(other: list[float], expected: float) -> None:
    assert correlation([1e300, 2e300, 3e300], other) == pytest.approx(expected)


def test_shards_that_were_read_are_one_file_and_a_changed_file_is_another(tmp_path: Path) -> None:
    one, two = as_file({"a": torch.arange(32.0)}), as_file({"b": torch.arange(32.0) + 1})
    joined = JoinedFiles([one, two])
    assert set(joined.tensors) == {"a", "b"}
    assert joined.read("b", 0, 16) == two.read("b", 0, 16)
    read = FilesRead()
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"1")
    first = read.add(str(path))
    (before,) = read.of([str(path)])
    assert read.add(str(path)) == first
    assert read.of([str(path)])[0].number == before.number
    path.write_bytes(b"22")
    assert read.add_mapped(str(path)) != first
    assert read.of([str(path)])[0].number > before.number


class Wide(nn.Module):
    """265 tensors that can be compared, as a real model may have them."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(32, 32, bias=False) for _ in range(265))


def test_all_tensors_of_a_patched_model_are_counted_in_slices_and_once(tmp_path: Path) -> None:
    pauses: list[None] = []
    with attached(lambda: pauses.append(None)) as sidecar:
        save_file(Wide().state_dict(), tmp_path / "base_v1.safetensors")
        os.utime(tmp_path / "base_v1.safetensors", (1e9, 1e9))
        model = Wide()
        model.load_state_dict({key: value.half() for key, value in load_file(tmp_path / "base_v1.safetensors").items()})
        with torch.no_grad():
            for parameter in list(model.parameters())[:48]:
                parameter.add_(0.01)
        (found,) = sidecar.models()
        assert (found.name, found.confidence) == ("base_v1", 0.75)
        assert (found.matched_tensors, found.compared_tensors) == (217, 265)
        assert found.matched_samples is not None
        assert found.matched_samples <= 16
        assert len(pauses) >= 265 // 16
        pauses.clear()
        assert sidecar.models()[0].matched_tensors == 217
        assert pauses == []
        assert sidecar.failures.count == 0


def test_out_of_reach_nothing_is_counted_and_the_samples_have_to_do(tmp_path: Path) -> None:
    with attached() as sidecar:
        save_file(Backbone().state_dict(), tmp_path / "base_v1.safetensors")
        os.utime(tmp_path / "base_v1.safetensors", (1e9, 1e9))
        state = {key: value.half() for key, value in load_file(tmp_path / "base_v1.safetensors").items()}
        state["blocks.0.q.weight"] = state["blocks.0.q.weight"] + 0.01
        model = Backbone().half()
        model.load_state_dict(state)
        model.to("meta")
        (found,) = sidecar.models()
        assert (found.name, found.matched_samples, found.compared_samples) == ("base_v1", 11, 12)
        assert found.matched_tensors is None


def test_a_model_that_comes_back_into_host_memory_is_compared_then(tmp_path: Path) -> None:
    with attached() as sidecar:
        save_file(Backbone().state_dict(), tmp_path / "base_v1.safetensors")
        os.utime(tmp_path / "base_v1.safetensors", (1e9, 1e9))
        state = load_file(tmp_path / "base_v1.safetensors")
        with torch.device("meta"):
            model = Backbone()
        (away,) = sidecar.models()
        assert (away.name_source, away.fingerprint) == ("names and shapes", None)
        model.to_empty(device="cpu")
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                parameter.copy_(state[key])
        (back,) = sidecar.models()
        assert (back.name, back.name_source, back.compared_samples) == ("base_v1", "values", 12)


def test_what_is_sampled_is_chosen_once_and_again_only_when_something_was_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[str] = []
    choose = SampleReader._examined

    def counted(own: SampleReader, found: FoundModel) -> tuple[Mapping[str, ModelTensor], int]:
        chosen.append(found.class_name)
        return choose(own, found)

    monkeypatch.setattr(SampleReader, "_examined", counted)
    with attached() as sidecar:
        save_file(Backbone().state_dict(), tmp_path / "base_v1.safetensors")
        model = Backbone()
        model.load_state_dict(load_file(tmp_path / "base_v1.safetensors"))
        sidecar.models()
        model.half().float()
        sidecar.models()
        with torch.no_grad():
            next(model.parameters()).mul_(2)
        load_file(tmp_path / "base_v1.safetensors")
        sidecar.models()
        assert chosen == ["Backbone"]
        model.load_state_dict(load_file(tmp_path / "base_v1.safetensors"))
        sidecar.models()
        assert chosen == ["Backbone"] * 2


def test_a_model_whose_values_say_nothing_is_not_gone_through_at_each_change(monkeypatch: pytest.MonkeyPatch) -> None:
    gone_through: list[int] = []
    of = SampleReader.of

    def counted(own: SampleReader, core: int) -> Iterator[ModelTensor]:
        gone_through.append(core)
        return of(own, core)

    monkeypatch.setattr(SampleReader, "of", counted)
    with attached() as sidecar:
        model = nn.Sequential(*(nn.Linear(64, 64).to("meta") for _ in range(80)))
        sidecar.models()
        first = gone_through.count(id(model))
        for _ in range(5):
            model.register_buffer("touched", torch.zeros(1))
            sidecar.models()
        assert gone_through.count(id(model)) == first
        model.load_state_dict({f"{number}.bias": torch.rand(64) for number in range(80)}, strict=False, assign=True)
        (found,) = sidecar.models()
        assert found.fingerprint is not None  # there is something to see now
        assert len(found.fingerprint.samples) == 16
