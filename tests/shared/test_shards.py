"""Tests of which files are shards of one checkpoint, by their names."""

from __future__ import annotations

import pytest

from gpumodels_shared.file_names import name_from_path
from gpumodels_shared.shards import are_complete, checkpoint_of, is_index, shard_of, shards_in_all


@pytest.mark.parametrize(
    ("name", "stem", "count"),
    [
        ("model-00001-of-00004.safetensors", "model", 4),
        ("pytorch_model_00002-of-00003.bin", "pytorch_model", 3),
        ("model-00001-of-000163.safetensors", "model", 163),  # DeepSeek-V3
        ("model-1-of-61.safetensors", "model", 61),  # Kimi-K2
        ("model-001-of-003.safetensors", "model", 3),
        ("mistral.Q8_0-00001-of-00002.gguf", "mistral.Q8_0", 2),  # llama.cpp's gguf-split
        ("Wan2.1-T2V-14B-00001-of-00006.safetensors", "Wan2.1-T2V-14B", 6),
        ("diffusion_pytorch_model.fp16-00001-of-00002.safetensors", "diffusion_pytorch_model.fp16", 2),
        ("diffusion_pytorch_model-00001-of-00002.fp16.safetensors", "diffusion_pytorch_model.fp16", 2),  # diffusers to 0.31
        ("diffusion_pytorch_model-00001-of-00002.non_ema.safetensors", "diffusion_pytorch_model.non_ema", 2),
        ("model.safetensors-00001-of-00004.safetensors", "model", 4),
        ("model.safetensors-00001-of-00004", "model", 4),
        ("llama-00001-of-00005-Q4_K_M.gguf", "llama-Q4_K_M", 5),
        ("llama.Q8_0.gguf.part1of2", "llama.Q8_0", 2),
        ("acme_part_1_of_2.safetensors", "acme", 2),
        ("part-1-of-2.safetensors", "model", 2),
        ("ft_model_0001_of_0004.pt", "ft_model", 4),
        ("consolidated.00.pth", "consolidated", None),
        ("model0-mp8.safetensors", "model", 8),
        ("model-rank-0-part-1.safetensors", "model", None),
        ("mp_rank_00_model_states.pt", "model", None),
    ],
)
def test_a_shards_name_says_its_checkpoint_and_how_many_there_are(name: str, stem: str, count: int | None) -> None:
    shard = shard_of(name)
    assert shard is not None
    assert (shard.stem, shards_in_all(f"/m/{name}")) == (stem, count)


@pytest.mark.parametrize(
    "path",
    [
        "/m/model.safetensors",
        "/m-00001-of-00004/model.safetensors",
        "/m/take-5-of-3.safetensors",
        "/m/model-1-of-0.safetensors",
        "/m/best-of-3.safetensors",
        "/m/house-1-of-2-girls.safetensors",
        "/m/girl_2_of_10.safetensors",
        "/m/take1of2.safetensors",
        "/m/consolidated.safetensors",
        "/m/professor.safetensors",
        "/m/",
        "",
    ],
)
def test_other_files_are_checkpoints_of_their_own(path: str) -> None:
    assert checkpoint_of(path) == path
    assert shards_in_all(path) is None


def test_all_shards_of_one_checkpoint_are_one_text_and_files_beside_them_are_others() -> None:
    shards = {checkpoint_of(f"/m/model-0000{number}-of-00003.safetensors") for number in (1, 2, 3)}
    assert len(shards) == 1
    others = (
        "/m/model.safetensors",
        "/m/model-00001-of-00003.bin",
        "/n/model-00001-of-00003.safetensors",
        "/m/model-00001-of-00003.fp16.safetensors",
        "/m/model.fp16-00001-of-00003.safetensors",
        "/m/model-00001-of-00004.safetensors",
    )
    assert len({checkpoint_of(other) for other in others} | shards) == 1 + len(others)


@pytest.mark.parametrize("pattern", ["model-{}-of-3", "model-{:05d}-of-000003", "model-{:03d}-of-003.fp16", "model-part{}of3"])
def test_shards_are_complete_where_each_is_there_once(pattern: str) -> None:
    paths = [f"/m/{pattern.format(number)}.safetensors" for number in (1, 2, 3)]
    assert are_complete(paths)
    assert are_complete(reversed(paths))
    assert not are_complete(paths[:2])
    assert not are_complete([*paths[:2], paths[0]])
    assert not are_complete([])


def test_shards_numbered_from_zero_are_complete_too() -> None:
    assert are_complete(f"/m/model{number}-mp4.safetensors" for number in range(4))
    assert not are_complete(["/m/consolidated.00.pth", "/m/consolidated.01.pth"])  # they don't say how many there are


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.safetensors.index.json", True),
        ("model.safetensors.index.fp16.json", True),  # transformers 5.24 and diffusers 0.42, with a variant
        ("diffusion_pytorch_model.safetensors.index.non_ema.json", True),
        ("diffusion_pytorch_model.fp16.safetensors.index.json", True),
        ("model_index.json", False),
        ("pytorch_model.bin.index.json", False),
        ("config.json", False),
    ],
)
def test_an_index_is_known_by_its_name_with_and_without_a_variant(name: str, expected: bool) -> None:
    assert is_index(name) is expected


@pytest.mark.parametrize(
    "name",
    [
        "model-00001-of-000163.safetensors",
        "model-1-of-61.safetensors",
        "model-00001-of-00002.fp16.safetensors",
        "model.safetensors-00001-of-00004.safetensors",
        "consolidated.00.pth",
        "model0-mp8.safetensors",
        "mp_rank_00_model_states.pt",
    ],
)
def test_shards_without_a_name_are_called_by_their_folder(name: str) -> None:
    assert name_from_path(f"/models/Acme-R1/{name}") == "Acme-R1"
