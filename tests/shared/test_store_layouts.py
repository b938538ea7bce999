"""Where programs keep models, and how they spell their names."""

from __future__ import annotations

import pytest

from gpumodels_shared.store_layouts import LAYOUTS, hub_repository, is_framework, named_in_store, spelled


@pytest.mark.parametrize(
    ("path", "repository"),
    [
        ("/h/hub/models--org--name/snapshots/0a1b/model.safetensors", "org/name"),
        ("/h/hub/models--org--name/blobs/0a1b2c", "org/name"),
        ("models--org--name-v1.5/snapshots/0a/model.gguf", "org/name-v1.5"),
        ("/h/hub/datasets--org--name/snapshots/0a/part.parquet", None),
        ("/h/hub/models--bert/snapshots/0a/model.safetensors", None),
        ("/n/hub/models--nim--meta--llama3-8b/snapshots/hf-1/model.safetensors", "nim/meta/llama3-8b"),
        ("/m/org/name/model.safetensors", None),
    ],
)
def test_a_path_in_the_hubs_cache_says_its_repository(path: str, repository: str | None) -> None:
    assert hub_repository(path) == repository


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/h/hub/models--gpt2/snapshots/607a30d/model.safetensors", "gpt2"),
        ("/h/modelscope/models/Qwen--Qwen2___5-VL-3B/snapshots/master/model.safetensors", "Qwen/Qwen2.5-VL-3B"),
        ("/h/modelscope/hub/models/Qwen/Qwen2___5-VL-3B/model.safetensors", "Qwen/Qwen2.5-VL-3B"),
        ("/h/modelscope/hub/Qwen/Qwen2___5-VL-3B/model.safetensors", "Qwen/Qwen2.5-VL-3B"),
        ("/h/kagglehub/models/google/gemma/pyTorch/2b/2/model.ckpt", "google/gemma/pyTorch/2b"),
        ("/kaggle/input/gemma/pytorch/2b/2/model.ckpt", "gemma/pytorch/2b"),
        ("/kaggle/input/models/google/gemma/pytorch/2b/2/model.ckpt", "google/gemma/pytorch/2b"),
        ("/data/models/google/gemma/transformers/2b/2/model.ckpt", "google/gemma/transformers/2b"),
        ("/data/gemma/pyTorch/2b/2/model.ckpt", "gemma/pyTorch/2b"),
        ("/h/bentoml/models/my_model/q2yi5qsqqssqtbmz/saved_model.pt", "my_model"),
        ("/w/mlruns/0/0a1b/artifacts/my-net/data/model.pth", "my-net"),
        ("/h/hub/datasets--org--nets/snapshots/0a/my-net.pt", "org/nets"),
        ("/home/ada/pytorch/net/1/model.ckpt", None),
        ("/data/gemma/2b/2/model.ckpt", None),
        ("/m/org/name/model.safetensors", None),
    ],
)
def test_a_store_says_what_a_model_is_called(path: str, name: str | None) -> None:
    found = named_in_store(path)
    assert (None if found is None else found[0]) == name


def test_each_layout_is_some_programs() -> None:
    assert len({layout.program for layout in LAYOUTS}) == len(LAYOUTS)


def test_a_framework_is_known_in_any_case() -> None:
    assert is_framework("pyTorch")
    assert not is_framework("pytorch-net")


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("Qwen2___5-VL-3B", "Qwen2.5-VL-3B"),
        ("my___net", "my___net"),
        ("BiRefNet-main", "BiRefNet"),
        ("snakers4_silero-vad_master", "snakers4_silero-vad"),
        ("main", "main"),
        ("headmaster", "headmaster"),
    ],
)
def test_a_folder_is_spelled_as_people_do(folder: str, name: str) -> None:
    assert spelled(folder) == name
