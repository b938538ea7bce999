"""How a model's values agree with its file, on state dicts that stand in for both."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from gpumodels.naming.agreement import MAX_COMPARISONS, Agreement, Elements, agreement, correlation
from gpumodels.provenance.files_read import FilesRead, JoinedFiles, SampledFile
from gpumodels.provenance.host_samples import TensorSampler
from gpumodels_shared.schema import TensorSample

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


def agreed(state: State, *files: State, max_comparisons: int = MAX_COMPARISONS) -> Agreement | None:
    return agreement(samples(state), [as_file(file) for file in files], lambda: None, max_comparisons)


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


def test_tensors_that_the_file_lacks_do_not_count_and_quantized_weights_say_nothing() -> None:
    state = a_state(1)
    assert agreed({**state, "head.weight": torch.randn(7, 33)}, state) == Agreement(12, 12, 0)
    quantized = {key: (value * 100).to(torch.int8) for key, value in state.items()}
    assert agreed(quantized, state) == Agreement(0, 0, 0)
    assert not Agreement(0, 0, 0).is_refuted
    assert agreed(quantized, quantized) == Agreement(12, 12, 0)


def test_what_was_made_of_others_in_a_way_that_is_not_known_counts_neither_as_changed_nor_as_the_same() -> None:
    state = {f"layers.{layer}.mlp.{kind}.weight": torch.randn(32, 32) for layer in range(6) for kind in ("up", "down")}
    turned = {
        key.replace("up.weight", "up_t"): value.t().contiguous() if ".up." in key else value for key, value in state.items()
    }
    assert agreed(turned, state) == Agreement(6, 6, 0)
    changed = {key: value + 2 if ".0.mlp.down" in key else value for key, value in turned.items()}
    assert agreed(changed, state) == Agreement(6, 5, 1)


def test_a_few_large_tensors_refute_a_file_that_many_small_ones_are_of() -> None:
    small, large = a_state(1), {f"large.{number}": torch.randn(640, 32) for number in range(2)}
    mixed = agreed({**small, **large}, {**small, **{key: torch.randn(640, 32) for key in large}})
    assert mixed == Agreement(14, 12, 0)
    assert mixed.elements == Elements(matched=12 * 1024, different=2 * 20_480)
    assert mixed.is_refuted
    merged = agreed({**small, **{key: value * 1.01 for key, value in large.items()}}, {**small, **large})
    assert merged == Agreement(14, 12, 2)
    assert not merged.is_refuted


def test_what_a_file_lacks_is_no_part_of_it_and_what_was_converted_only_if_that_is_the_smaller_part() -> None:
    assert Elements(matched=10, missing=30).in_all == 40
    assert Elements(matched=10, converted=10).in_all == 10
    assert Elements(matched=10, related=5, different=5, converted=16).in_all == 36
    state = {f"layers.{layer}.up.weight": torch.randn(32, 32) for layer in range(4)}
    added = {
        "control.weight": torch.randn(8, 40),
        "layers.0.odd": torch.randn(9, 9),
        "packed": torch.ones(7, 33, dtype=torch.int8),
    }
    found = agreed({**state, **added}, state)
    assert found is not None
    assert found.elements == Elements(matched=4 * 1024, missing=320, converted=81)


def test_one_or_two_tensors_do_not_make_a_model_a_files_however_large_they_are() -> None:
    large = {f"large.{number}": torch.randn(640, 32) for number in range(2)}
    assert not Agreement(4, 2, 0).is_refuted
    found = agreed({**a_state(1), **large}, {**a_state(2), **large})
    assert found is not None
    assert found.is_refuted


@pytest.mark.parametrize(
    ("dtype", "in_file", "matched"),
    [("float32", "float32", 12), ("float64", "float32", 12), ("float32", "bfloat16", 12), ("bfloat16", "bfloat16", 0)],
)
def test_what_was_merged_and_unmerged_is_the_same_again_where_rounding_is_far_finer_than_training(
    dtype: str, in_file: str, matched: int
) -> None:
    state = {key: value.to(getattr(torch, in_file)) for key, value in a_state(1).items()}
    update = {key: (torch.randn(32, 4) @ torch.randn(4, 32)).to(getattr(torch, dtype)) for key in state}
    wide = {key: value.to(getattr(torch, dtype)) for key, value in state.items()}
    unmerged = agreed({key: value + update[key] - update[key] for key, value in wide.items()}, state)
    assert unmerged == Agreement(12, matched, 12 - matched)
    merged = agreed({key: value + 1e-4 * update[key] for key, value in wide.items()}, state)
    assert merged is not None
    assert merged.matched == 0 or in_file == dtype == "bfloat16"


def test_a_model_may_be_made_of_several_files() -> None:
    state = a_state(1)
    halves = [dict(list(state.items())[start::2]) for start in (0, 1)]
    assert agreed(state, *halves) == Agreement(12, 12, 0)


class CountedReads:
    """A file that counts how often it is read."""

    def __init__(self, file: SampledFile) -> None:
        self._file = file
        self.tensors = file.tensors
        self.reads = 0

    def read(self, key: str, start: int, count: int) -> bytes:
        self.reads += 1
        return self._file.read(key, start, count)


@pytest.mark.parametrize("changed_by", [0.0, 0.01])
def test_a_file_is_read_once_however_many_renamed_tensors_may_be_any_of_its(changed_by: float) -> None:
    state = a_state(1, layers=60)
    renamed = {key.replace("blocks", "layers"): value + changed_by * torch.randn(32, 32) for key, value in state.items()}
    file = CountedReads(as_file(state))
    found = agreement(samples(renamed), [file], lambda: None)
    assert found == (Agreement(60, 0, 60) if changed_by else Agreement(60, 60, 0))
    assert file.reads <= 2 * 60


def test_a_comparison_that_would_take_too_long_is_not_made() -> None:
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
