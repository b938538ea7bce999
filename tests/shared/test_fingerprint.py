from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpumodels_shared.codec import encode
from gpumodels_shared.decoding import decode
from gpumodels_shared.fingerprint import (
    TENSORS,
    VALUES,
    FileIndex,
    Match,
    TensorFinder,
    agrees,
    best_files,
    choose_samples,
    compare,
    decode_samples,
    elements_of,
    large_keys,
    same_names_and_shapes,
    shapes_may_match,
)
from gpumodels_shared.floats import ITEM_BYTES
from gpumodels_shared.schema import Fingerprint, Model, Snapshot, TensorSample
from snapshots import a_model, a_snapshot

DTYPES = {name: getattr(torch, name) for name in ITEM_BYTES if "int" not in name}
NARROW = ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"]


def raw(tensor: torch.Tensor, start: int = 0, count: int = VALUES) -> bytes:
    flat = tensor.detach().contiguous().view(-1)[start : start + count]
    return ctypes.string_at(flat.data_ptr(), flat.numel() * flat.element_size())


def dtype_name(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


class AFile:
    """A model file, for which a state dict stands in."""

    def __init__(self, state: Mapping[str, torch.Tensor]) -> None:
        self._state = state
        self.tensors = {key: (dtype_name(tensor), tuple(tensor.shape)) for key, tensor in state.items()}

    def read(self, key: str, start: int, count: int) -> bytes:
        return raw(self._state[key], start, count)


def a_fingerprint(state: Mapping[str, torch.Tensor]) -> Fingerprint:
    def sample(key: str) -> TensorSample | None:
        tensor = state[key]
        return TensorSample(key, dtype_name(tensor), tuple(tensor.shape), raw(tensor)) if tensor.numel() >= VALUES else None

    return Fingerprint(choose_samples({key: tensor.numel() for key, tensor in state.items()}, sample), 0)


def a_state(seed: int, layers: int = 24) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    state = {f"blocks.{i}.weight": torch.randn(32, 32, generator=generator) * 0.02 for i in range(layers)}
    return {**state, **{f"blocks.{i}.norm": torch.ones(32) for i in range(layers)}}


def cast(state: Mapping[str, torch.Tensor], *ways: str) -> dict[str, torch.Tensor]:
    for way in ways:
        state = {key: tensor.to(DTYPES[way]) for key, tensor in state.items()}
    return dict(state)


@pytest.mark.parametrize("first", ["float32", *NARROW])
@pytest.mark.parametrize("between", [None, *NARROW])
@pytest.mark.parametrize("last", ["float32", *NARROW])
def test_a_cast_and_a_double_cast_agree_and_other_values_do_not(first: str, between: str | None, last: str) -> None:
    in_file = cast(a_state(1), first)
    in_memory = cast(in_file, *([between] if between else []), last)
    fingerprint = a_fingerprint(in_memory)
    assert len(fingerprint.samples) == TENSORS
    assert compare(fingerprint, AFile(in_file)).is_full
    assert compare(fingerprint, AFile(cast(a_state(2), first))).matched == 0


def test_values_of_more_precision_do_not_come_from_a_file_of_less() -> None:
    state = a_state(1)
    assert compare(a_fingerprint(state), AFile(cast(state, "float16"))).matched == 0


def test_constants_are_no_evidence() -> None:
    assert all("norm" not in sample.key for sample in a_fingerprint(a_state(1)).samples)
    assert a_fingerprint({"norm": torch.ones(64)}).samples == ()
    assert not compare(Fingerprint((), 0), AFile(a_state(1))).is_full


def test_renamed_keys_are_found_by_shape_and_value() -> None:
    state = a_state(1)
    renamed = {f"model.diffusion_model.{key.replace('blocks', 'layers')}": tensor for key, tensor in state.items()}
    assert compare(a_fingerprint(state), AFile(renamed)).is_full


def test_split_projections_are_found_in_the_fused_one_and_a_fused_one_by_its_first() -> None:
    split = {
        f"{i}.{part}": torch.randn(32, 32, generator=torch.Generator().manual_seed(9 * i + k))
        for i in range(8)
        for k, part in enumerate("qkv")
    }
    fused = {f"{i}.qkv": torch.cat([split[f"{i}.{part}"] for part in "qkv"]) for i in range(8)}
    assert compare(a_fingerprint(split), AFile(fused)).is_full
    assert compare(a_fingerprint(fused), AFile(split)).is_full


def a_block(seed: int, layer: int, heights: Mapping[str, int]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(100 * seed + layer)
    return {f"layers.{layer}.attn.{kind}.weight": torch.randn(rows, 32, generator=generator) for kind, rows in heights.items()}


def test_projections_of_unequal_heights_are_found_in_the_fused_one() -> None:
    state = {key: value for layer in range(6) for key, value in a_block(1, layer, {"q": 64, "k": 16, "v": 16, "o": 32}).items()}
    fused = {key: value for key, value in state.items() if ".o." in key}
    for layer in range(6):
        fused[f"layers.{layer}.attn.qkv.weight"] = torch.cat([state[f"layers.{layer}.attn.{kind}.weight"] for kind in "qkv"])
    assert compare(a_fingerprint(state), AFile(fused)) == Match(TENSORS, TENSORS)
    assert compare(a_fingerprint(fused), AFile(state)) == Match(12, 12)
    assert shapes_may_match([tuple(value.shape) for value in fused.values()], [(64, 32), (16, 32)])


def test_stacked_matrices_are_found_one_by_one_and_a_stack_by_its_first() -> None:
    generator = torch.Generator().manual_seed(5)
    state = {f"layers.{i}.experts.{e}.weight": torch.randn(24, 32, generator=generator) for i in range(4) for e in range(4)}
    stacked = {
        f"layers.{i}.experts.w{half}": torch.stack([state[f"layers.{i}.experts.{e}.weight"] for e in (2 * half, 2 * half + 1)])
        for i in range(4)
        for half in (0, 1)
    }
    assert compare(a_fingerprint(state), AFile(stacked)) == Match(16, 16)
    assert compare(a_fingerprint(stacked), AFile(state)) == Match(8, 8)
    for file, model in ((stacked, state), (state, stacked)):
        assert shapes_may_match([tuple(value.shape) for value in file.values()], [tuple(value.shape) for value in model.values()])


def test_what_was_made_of_others_in_a_way_that_is_not_known_is_not_compared_with_them() -> None:
    state = {key: value for layer in range(6) for key, value in a_block(2, layer, {"q": 64, "o": 32, "up": 48}).items()}
    turned = {key.replace("up.weight", "up_t"): value.t() if ".up." in key else value for key, value in state.items()}
    sampled = sum("up_t" in sample.key for sample in a_fingerprint(turned).samples)
    assert sampled
    for prefix in ("", "model."):
        file = AFile({f"{prefix}{key}": value for key, value in state.items()})
        assert compare(a_fingerprint(turned), file) == Match(TENSORS - sampled, TENSORS - sampled)
    added = {f"control.{number}.weight": torch.randn(8, 40) for number in range(4)}
    match = compare(a_fingerprint({**state, **added}), AFile(state))  # the file knows no such place: they are from elsewhere
    assert (match.is_patched, match.compared) == (True, TENSORS)


def test_too_few_that_agree_are_not_enough_where_the_others_are_not_compared() -> None:
    state = a_block(3, 0, {"q": 64, "o": 32, "up": 48})
    turned = {key.replace("up.weight", "up_t"): value.t() if ".up." in key else value for key, value in state.items()}
    assert compare(a_fingerprint(turned), AFile(state)) == Match(2, 3)


def test_what_another_file_agrees_with_may_be_what_could_not_be_compared() -> None:
    assert best_files({"base": Match(10, 10), "other": Match(6, 16)}) == ("base", "other")
    assert best_files({"base": Match(10, 10), "other": Match(2, 16)}) == ("base",)


def test_merged_weights_leave_a_patched_match_and_too_many_none() -> None:
    state = a_state(1)
    samples = a_fingerprint(state).samples

    def patched(count: int) -> Match:
        merged = {sample.key: state[sample.key] + 0.01 for sample in samples[:count]}
        return compare(a_fingerprint({**state, **merged}), AFile(state))

    assert patched(5) == Match(TENSORS - 5, TENSORS)
    assert patched(5).is_patched
    assert not patched(5).is_full
    assert not patched(9).is_patched


def a_state_with_large_ones(seed: int, small: int, large: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    state = {f"encoder.{number}.weight": torch.randn(16, 16, generator=generator) for number in range(small)}
    return state | {f"large.{number}.weight": torch.randn(256, 32, generator=generator) for number in range(large)}


def test_large_tensors_are_sampled_besides_and_others_stand_for_all_of_their_size() -> None:
    state = a_state_with_large_ones(1, small=500, large=3)
    fingerprint = a_fingerprint(state)
    chosen = [sample.key for sample in fingerprint.samples]
    assert {key for key in state if "large" in key} <= set(chosen)
    assert len(chosen) == TENSORS + 3
    elements = dict(zip(chosen, elements_of(fingerprint.samples), strict=True))
    assert [elements[f"large.{number}.weight"] for number in range(3)] == [8192] * 3
    in_all = sum(tensor.numel() for tensor in state.values())
    assert 0.5 * in_all < sum(elements.values()) < 2 * in_all
    few = a_fingerprint(a_state_with_large_ones(1, small=10, large=2)).samples
    assert elements_of(few) == [math.prod(sample.shape) for sample in few]
    assert large_keys({f"blocks.{number}": 100 for number in range(20)}) == []
    assert large_keys({f"large.{number}": 100 for number in range(2)} | {f"{number}": 1 for number in range(200)}) == [
        "large.1",
        "large.0",
    ]
    assert large_keys({}) == large_keys({"empty": 0}) == []


def test_large_tensors_that_are_in_no_file_outweigh_many_small_ones() -> None:
    """36 of 38 tensors agree, of which two hold two thirds."""
    state, other = (a_state_with_large_ones(seed, small=36, large=2) for seed in (1, 2))
    small = {key: value for key, value in state.items() if "encoder" in key}
    for file in (state, small):
        match = compare(a_fingerprint(other | small), AFile(file))
        assert match.matched == TENSORS
        assert not match.is_full
        assert not match.is_patched
    assert compare(a_fingerprint(state), AFile(state)).is_full
    sampled = next(sample.key for sample in a_fingerprint(state).samples)
    merged = {key: value + 0.01 if key == sampled else value for key, value in state.items()}
    all_merged = {key: value + 0.01 for key, value in small.items()}
    patched = [compare(a_fingerprint(one), AFile(state)) for one in (merged, {**state, **all_merged})]
    assert [match.is_patched for match in patched] == [True, False]  # with two tensors alone, however large, there is no match


def test_weights_that_were_quantized_since_say_nothing_however_large() -> None:
    state = a_state_with_large_ones(1, small=12, large=2)
    quantized = {key: (value * 50).to(torch.int8) if "large" in key else value for key, value in state.items()}
    assert compare(a_fingerprint(quantized), AFile(state)) == Match(12, 12)
    packed = {key: value[:, :16].contiguous() if value.dtype is torch.int8 else value for key, value in quantized.items()}
    assert compare(a_fingerprint(packed), AFile(state)) == Match(12, 12)
    other = {key: -value if "large" in key else value for key, value in quantized.items()}
    assert not compare(a_fingerprint(other), AFile(quantized)).is_full  # here both are quantized, and differ


def test_of_two_files_the_one_with_more_of_the_elements_is_the_models() -> None:
    assert best_files({"small": Match(12, 16, 12.0, 52.0), "large": Match(4, 16, 40.0, 52.0)}) == ("large",)
    assert best_files({"small": Match(12, 16, 25.0, 52.0), "large": Match(4, 16, 27.0, 52.0)}) == ("large", "small")
    assert best_files({"small": Match(12, 16, 12.0, 52.0)}) == ()
    assert best_files({"half": Match(8, 16)}) == ()
    # What is changed is the file's, but a file of which less is changed is the better one.
    tuned = Match(16, 16, 52.0, 52.0)
    assert best_files({"base": Match(8, 16, 20.0, 52.0, 32.0), "tune": tuned}) == ("tune",)
    assert best_files({"base": Match(8, 16, 20.0, 52.0, 32.0), "sibling": Match(8, 16, 9.0, 52.0, 43.0)}) == ("base",)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_61_fine_tunes_of_one_architecture_are_told_apart(dtype: str) -> None:
    base = a_state(0)
    tunes = {}
    for number in range(61):
        generator = torch.Generator().manual_seed(100 + number)
        tunes[f"tune{number}"] = {
            key: tensor + 1e-3 * torch.randn(tensor.shape, generator=generator) if tensor.dim() > 1 else tensor
            for key, tensor in base.items()
        }
    files = {name: AFile(state) for name, state in tunes.items()}
    for name in list(tunes)[::20]:
        fingerprint = a_fingerprint(cast(tunes[name], dtype))
        assert best_files({path: compare(fingerprint, file) for path, file in files.items()}) == (name,)


def test_what_8_bits_cannot_tell_apart_is_a_tie() -> None:
    base = a_state(0)
    close = {key: tensor * (1 + 1e-6) for key, tensor in base.items()}
    fingerprint = a_fingerprint(cast(base, "float8_e4m3fn"))
    matches = {"base": compare(fingerprint, AFile(base)), "close": compare(fingerprint, AFile(close))}
    assert best_files(matches) == ("base", "close")


def test_names_and_shapes_agree_under_one_common_prefix() -> None:
    file = {key: (dtype, shape) for key, (dtype, shape) in AFile(a_state(1)).tensors.items()}
    wanted = {key: shape for key, (_, shape) in file.items()}
    assert same_names_and_shapes(wanted, file)
    assert same_names_and_shapes(wanted, {f"model.{key}": entry for key, entry in file.items()})
    assert not same_names_and_shapes({**wanted, "head.weight": (3, 3)}, file)
    assert not same_names_and_shapes({}, file)


def test_a_fingerprint_travels_in_a_snapshot() -> None:
    fingerprint = a_fingerprint(a_state(1))
    from dataclasses import replace

    model: Model = replace(a_model(), fingerprint=fingerprint)
    snapshot: Snapshot = replace(a_snapshot(), models=(model,))
    assert decode(encode(snapshot)).models[0].fingerprint == fingerprint
    assert len(encode(snapshot)) - len(encode(replace(snapshot, models=(a_model(),)))) < 4000


def cast_by_torch(sample_dtype: str, sample: bytes, file_dtype: str, in_file: bytes) -> bool:
    """Whether torch casts the file's values to the sample's, directly or through any other dtype."""
    if len(sample) // ITEM_BYTES[sample_dtype] != len(in_file) // ITEM_BYTES[file_dtype] or not in_file:
        return False
    wanted = torch.frombuffer(bytearray(sample), dtype=DTYPES[sample_dtype]).double()
    stated = torch.frombuffer(bytearray(in_file), dtype=DTYPES[file_dtype])
    return any(
        torch.equal(wanted.nan_to_num(7e77, 8e88, 9e99), become.double().nan_to_num(7e77, 8e88, 9e99))
        for between in (file_dtype, *DTYPES)
        for become in [stated.to(DTYPES[between]).to(DTYPES[sample_dtype])]
    )


def compared_pair_by_pair(fingerprint: Fingerprint, file: AFile) -> Match:
    """The same rule without an index and with torch's own casts: compares each sample with each tensor that it may come from."""
    places, matched, matched_elements, other_elements = TensorFinder(file.tensors), 0, 0.0, 0.0
    others: list[tuple[TensorSample, float]] = []
    elements = elements_of(fingerprint.samples)
    for number, (sample, count) in enumerate(zip(fingerprint.samples, elements, strict=True)):
        if 3 * (number - matched) > 2 * len(fingerprint.samples) and 3 * other_elements > 2 * sum(elements):
            break
        named = places.named(sample.key, sample.shape)
        for key in places.alike(sample.shape) if named is None else (named,):
            with patch("gpumodels_shared.fingerprint.agree", cast_by_torch):
                is_one = agrees(sample, file, key)
            if is_one:
                places.found(sample.key, key)
                matched += 1
                matched_elements += count
                break
        else:
            other_elements += count
            others += [(sample, count)] if named is None else []
    converted = [count for sample, count in others if places.was_converted(sample.key)]
    left_out = converted if sum(converted) <= matched_elements else []
    if matched < 3 or 2 * matched_elements < sum(elements) - sum(left_out):
        left_out = []
    return Match(matched, len(fingerprint.samples) - len(left_out))


@pytest.mark.parametrize("size", [8, 64])
def test_a_model_whose_larger_part_is_in_no_file_is_not_called_by_the_few_tensors_that_are(size: int) -> None:
    """As a mixture of experts that was built from a config, whose experts were never loaded."""
    few = {f"layers.{number}.q_proj.weight": torch.randn(16, 16) for number in range(12)}
    experts = {f"layers.{n}.experts.{m}.up_proj.weight": torch.randn(size, 24) for n in range(4) for m in range(2)}
    never_loaded = {f"layers.{number}.experts.up_proj": torch.randn(2, 24, size) for number in range(4)}
    match = compare(a_fingerprint(few | never_loaded), AFile(few | experts))
    assert (match.matched, match.is_full) == (12, size == 8)
    assert match == compared_pair_by_pair(a_fingerprint(few | never_loaded), AFile(few | experts))


VALUES_OF_NOTE = (
    0.0,
    -0.0,
    1.0,
    -2.5,
    0.1,
    1e-3,
    2**-9,
    1e-6,
    3e-8,
    448.0,
    470.0,
    65504.0,
    1e5,
    1e38,
    math.inf,
    -math.inf,
    math.nan,
)
KEYS = ("a", "b", "m.a", "m.b", "c")
SHAPES = ((4, 4), (8, 4), (16, 4), (2, 8), (16,), (32,))


@st.composite
def states(draw: st.DrawFn) -> dict[str, torch.Tensor]:
    """A few small tensors of few values, so that many agree, under names of which some are suffixes of others."""
    state = {}
    for key in draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=5, unique=True)):
        shape = draw(st.sampled_from(SHAPES))
        few = draw(st.lists(st.sampled_from(VALUES_OF_NOTE), min_size=1, max_size=3))
        values = torch.tensor(few).repeat(64)[: math.prod(shape)]
        state[key] = values.view(shape).to(DTYPES[draw(st.sampled_from(list(DTYPES)))])
    return state


@settings(max_examples=60, deadline=None)
@given(states(), st.lists(st.sampled_from(list(DTYPES)), max_size=2), st.data())
def test_an_index_finds_what_comparing_each_with_each_finds(
    in_file: dict[str, torch.Tensor], ways: list[str], data: st.DataObject
) -> None:
    file, index = AFile(in_file), FileIndex(AFile(in_file))
    own = {
        key: tensor[: data.draw(st.sampled_from([tensor.shape[0], max(1, tensor.shape[0] // 2)]))]
        for key, tensor in in_file.items()
    }
    for state in (cast(own, *ways), data.draw(states())):
        names = data.draw(st.permutations(KEYS))
        samples = [
            TensorSample(name, dtype_name(tensor), tuple(tensor.shape), raw(tensor))
            for name, tensor in zip(names, state.values(), strict=False)
        ]
        fingerprint = Fingerprint(tuple(samples), 0)
        assert index.match(decode_samples(fingerprint)) == compared_pair_by_pair(fingerprint, file)


def test_a_files_values_are_read_once_however_many_models_are_compared_with_it() -> None:
    class Counting(AFile):
        def __init__(self, state: Mapping[str, torch.Tensor]) -> None:
            super().__init__(state)
            self.places: list[tuple[str, int]] = []

        def read(self, key: str, start: int, count: int) -> bytes:
            self.places.append((key, start))
            return super().read(key, start, count)

    state = a_state(1)
    file = Counting({f"renamed.layer.{number}": tensor for number, tensor in enumerate(state.values())})
    index = FileIndex(file)
    for seed in (1, 2, 3, 4):
        for dtype in ("float32", "bfloat16", "float8_e4m3fn"):
            assert index.match(decode_samples(a_fingerprint(cast(a_state(seed), dtype)))).is_full == (seed == 1)
    assert len(file.places) == len(set(file.places)) <= len(state)
    assert index.match(decode_samples(Fingerprint((TensorSample("x", "float16", (4, 4), b"odd"),), 0))) == Match(0, 1)
