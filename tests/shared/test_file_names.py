"""What a model file's path says of the model, and what it doesn't."""

from __future__ import annotations

import pytest

from gpumodels_shared.file_names import (
    checkpoint_of,
    contains_name,
    file_group_name,
    hub_repository,
    is_generic,
    name_from_attribute,
    name_from_config,
    name_from_path,
    shards_in_all,
)


@pytest.mark.parametrize(
    ("path", "count"),
    [
        ("/m/model-00001-of-00004.safetensors", 4),
        ("/m/pytorch_model_00002-of-00003.bin", 3),
        ("/m/mistral.Q8_0-00001-of-00002.gguf", 2),
        ("/m/model.safetensors", None),
        ("/m/model-1-of-4.safetensors", None),
        ("/m-00001-of-00004/model.safetensors", None),
    ],
)
def test_a_shard_says_how_many_there_are(path: str, count: int | None) -> None:
    assert shards_in_all(path) == count


def test_all_shards_of_one_checkpoint_are_one_text_and_files_beside_them_are_others() -> None:
    shards = {checkpoint_of(f"/m/model-0000{number}-of-00003.safetensors") for number in (1, 2, 3)}
    assert len(shards) == 1
    for other in ("/m/model.safetensors", "/m/model-00001-of-00003.bin", "/n/model-00001-of-00003.safetensors"):
        assert checkpoint_of(other) not in shards
    assert checkpoint_of("") == ""


@pytest.mark.parametrize(
    ("path", "repository"),
    [
        ("/h/hub/models--org--name/snapshots/0a1b/model.safetensors", "org/name"),
        ("/h/hub/models--org--name/blobs/0a1b2c", "org/name"),
        ("models--org--name-v1.5/snapshots/0a/model.gguf", "org/name-v1.5"),
        ("/h/hub/datasets--org--name/snapshots/0a/part.parquet", None),
        ("/h/hub/models--bert/snapshots/0a/model.safetensors", None),
        ("/m/org/name/model.safetensors", None),
    ],
)
def test_a_path_in_the_hubs_cache_says_its_repository(path: str, repository: str | None) -> None:
    assert hub_repository(path) == repository


@pytest.mark.parametrize(
    ("path", "generic"),
    [
        ("/m/model.safetensors", True),
        ("/m/Model_fp16.safetensors", True),
        ("/m/model-00001-of-00004.safetensors", True),
        ("/m/diffusion_pytorch_model.fp16.safetensors", True),
        ("/m/consolidated.00.pth", True),
        ("/m/12.ckpt", True),
        ("/m/my-model.safetensors", False),
        ("/m/flux1-dev.safetensors", False),
    ],
)
def test_a_generic_file_name_is_no_models_whatever_its_packaging(path: str, generic: bool) -> None:
    assert is_generic(path) == generic


@pytest.mark.parametrize(
    ("stated", "name"),
    [
        ("MyLoRA", "MyLoRA"),
        ("  flux1-dev ", "flux1-dev"),
        ("", None),
        ("   ", None),
        ("unet", None),
        ("text_encoder_2", None),
        ("model", None),
        ("Encoder", None),
        ("Untitled", None),
        ("42", None),
    ],
)
def test_what_says_only_a_place_or_nothing_is_no_name(stated: str, name: str | None) -> None:
    assert name_from_attribute(stated) == name


@pytest.mark.parametrize(
    ("stated", "name", "more"),
    [
        ("Wan2_2-T2V-A14B-HIGH", "wan_high", True),
        ("Wan2_2-T2V-A14B-HIGH", "wan_low", False),
        ("Flux.1 Dev", "flux1-dev", True),
        ("anything", None, True),
        ("", "wan", False),
        ("anything", "---", False),
    ],
)
def test_who_says_more_says_every_word_of_the_name(stated: str, name: str | None, more: bool) -> None:
    assert contains_name(stated, name) == more


def test_the_metadata_of_any_shard_name_a_checkpoint_whose_files_are_called_like_anybodys() -> None:
    shards = tuple(f"/tmp/tmp1/model-0000{number}-of-00002.safetensors" for number in (1, 2))
    assert file_group_name(shards, {}) is None
    assert file_group_name(shards, {shards[1]: {"modelspec.title": " My Tune "}}) == "My Tune"
    stated = {shards[0]: {"modelspec.title": "My Tune", "model_type": "unet"}}
    assert file_group_name(shards, stated) == "My Tune", "a place is no name, what stands beside it may be"


def test_a_fine_tune_that_carries_its_bases_metadata_is_still_the_fine_tune() -> None:
    path = "/m/my_tune_v3.safetensors"
    assert file_group_name((path,), {path: {"modelspec.title": "Flux.1 Dev"}}) == "my_tune_v3"
    assert file_group_name((path,), {path: {"modelspec.title": "My Tune v3, EMA"}}) == "My Tune v3, EMA"


def test_a_hubs_file_whose_name_says_no_more_than_its_repository_has_the_repositorys() -> None:
    cache = "/h/hub/models--org--flux1-dev/snapshots/0a"
    assert name_from_path(f"{cache}/flux1-dev.safetensors") == "org/flux1-dev"
    assert name_from_path(f"{cache}/flux1-dev-turbo.safetensors") == "org/flux1-dev/flux1-dev-turbo"


def test_a_checkpoint_as_meta_publishes_them_has_its_directorys_name() -> None:
    assert name_from_path("/m/Llama-3-8B/consolidated.00.pth") == "Llama-3-8B"
    assert name_from_path("/m/Mistral-7B-v0.3/consolidated.safetensors") == "Mistral-7B-v0.3"


def test_a_config_that_names_a_directory_in_the_cache_means_its_repository() -> None:
    assert name_from_config("/h/hub/models--org--name/snapshots/0a1b") == "org/name"
    assert name_from_config(" org/name/ ") == "org/name"
    assert name_from_config("~/name") == "name"
