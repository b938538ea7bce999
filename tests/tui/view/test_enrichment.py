from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from gpumodels_tui.catalogue.facts import CatalogueState, ValuesMatch
from gpumodels_tui.view.enrichment import enriched, facts_from_files
from gpumodels_tui.view.metadata_fields import FIELDS, REPOSITORIES
from named_by_values import TUNE, recognised
from snapshots import GIB, MIB, a_catalogue, a_model, some_facts

FILE = "/models/loras/MyLoRA.safetensors"
NOTHING = CatalogueState()


def facts_from(**metadata: str) -> dict[str, str]:
    model = a_model(files=[FILE], dtypes={})
    return facts_from_files(enriched(model, a_catalogue(some_facts(FILE, metadata))))


ROWS = [
    ("modelspec.title", "My Fine Tune", "title", "My Fine Tune"),
    ("general.name", "Qwen2.5 7B", "title", "Qwen2.5 7B"),
    ("ss_output_name", "my_lora_v2", "title", "my_lora_v2"),
    ("title", "My LoRA", "title", "My LoRA"),
    ("name", "my_lora_v1", "title", "my_lora_v1"),
    ("model_type", "Wan2_2-T2V-A14B-HIGH", "model type", "Wan2_2-T2V-A14B-HIGH"),
    ("modelspec.architecture", "stable-diffusion-xl-v1-base/lora", "architecture", "stable-diffusion-xl-v1-base/lora"),
    ("general.architecture", "llama", "architecture", "llama"),
    ("architecture", "flux", "architecture", "flux"),
    ("config._class_name", "UNet2DConditionModel", "architecture", "UNet2DConditionModel"),
    ("config.architectures", "BertModel", "architecture", "BertModel"),
    ("config.model_type", "bert", "architecture", "bert"),
    ("general.base_model.0.name", "Qwen2.5 7B", "base model", "Qwen2.5 7B"),
    ("general.base_model.0.repo_url", "https://huggingface.co/org/base", "base model", "https://huggingface.co/org/base"),
    ("ss_sd_model_name", "sd_xl_base_1.0.safetensors", "base model", "sd_xl_base_1.0.safetensors"),
    ("ss_base_model_version", "sdxl_base_v1-0", "base model", "sdxl_base_v1-0"),
    ("base_model", "org/base", "base model", "org/base"),
    ("base_model_name_or_path", "org/base", "base model", "org/base"),
    ("ot_config.base_model_name", "org/base", "base model", "org/base"),
    ("lora_adapter_metadata.*.base_model_name_or_path", "org/base", "base model", "org/base"),
    ("adapter_config.base_model_name_or_path", "org/base", "base model", "org/base"),
    ("config._name_or_path", "org/base", "base model", "org/base"),
    ("modelspec.merged_from", "a, b", "merged from", "a, b"),
    ("modelspec.author", "Ada", "author", "Ada"),
    ("general.author", "Ada", "author", "Ada"),
    ("general.organization", "Org", "author", "Org"),
    ("author", "Ada", "author", "Ada"),
    ("creator", "Ada", "author", "Ada"),
    ("modelspec.license", "CC-BY-4.0", "license", "CC-BY-4.0"),
    ("general.license", "apache-2.0", "license", "apache-2.0"),
    ("general.license.name", "Llama 3", "license", "Llama 3"),
    ("license", "mit", "license", "mit"),
    ("modelspec.description", "of cats", "description", "of cats"),
    ("general.description", "of cats", "description", "of cats"),
    ("ss_training_comment", "second try", "description", "second try"),
    ("description", "of cats", "description", "of cats"),
    ("modelspec.usage_hint", "0.7 to 1", "usage", "0.7 to 1"),
    ("modelspec.resolution", "1024x1024", "resolution", "1024×1024"),
    ("modelspec.resolution", "up to 4k", "resolution", "up to 4k"),
    ("ss_resolution", "(768, 1344)", "resolution", "768×1344"),
    ("ss_resolution", "512", "resolution", "512×512"),
    ("resolution", "512x768", "resolution", "512×768"),
    ("config.image_size", "224", "resolution", "224×224"),
    ("ss_network_dim", "32", "rank", "32"),
    ("lora_rank", "32", "rank", "32"),
    ("rank", "32", "rank", "32"),
    ("network_dim", "32", "rank", "32"),
    ("lora_dim", "32", "rank", "32"),
    ("lora_adapter_metadata.*.r", "32", "rank", "32"),
    ("lora_adapter_metadata.r", "32", "rank", "32"),
    ("*.r", "32", "rank", "32"),
    ("ot_config.lora_rank", "32", "rank", "32"),
    ("lora_config.r", "32", "rank", "32"),
    ("peft_config.r", "32", "rank", "32"),
    ("adapter_config.r", "32", "rank", "32"),
    ("adapter.lora.alpha", "16.0", "alpha", "16.0"),
    ("ss_network_alpha", "16.0", "alpha", "16.0"),
    ("lora_alpha", "16", "alpha", "16"),
    ("alpha", "16", "alpha", "16"),
    ("network_alpha", "16", "alpha", "16"),
    ("lora_adapter_metadata.*.lora_alpha", "16", "alpha", "16"),
    ("lora_adapter_metadata.lora_alpha", "16", "alpha", "16"),
    ("*.lora_alpha", "16", "alpha", "16"),
    ("ot_config.lora_alpha", "16", "alpha", "16"),
    ("lora_config.lora_alpha", "16", "alpha", "16"),
    ("peft_config.lora_alpha", "16", "alpha", "16"),
    ("adapter_config.lora_alpha", "16", "alpha", "16"),
    ("modelspec.trigger_phrase", "a photo of sks", "trigger words", "a photo of sks"),
    ("ss_trigger_words", "sks", "trigger words", "sks"),
    ("trigger_phrase", "sks", "trigger words", "sks"),
    ("trigger_words", "sks", "trigger words", "sks"),
    ("trigger_word", "sks", "trigger words", "sks"),
    ("trained_words", "sks dog, oil painting", "trigger words", "sks dog, oil painting"),
    ("ss_trained_words", '["sks dog", "oil"]', "trigger words", "sks dog, oil"),
    ("instance_prompt", "a photo of sks", "trigger words", "a photo of sks"),
    ("ss_steps", "3200", "training steps", "3200"),
    ("training_info.step", "2000", "training steps", "2000"),
    ("global_step", "2000", "training steps", "2000"),
    ("steps", "2000", "training steps", "2000"),
    ("ss_max_train_steps", "3200", "training steps", "3200"),
    ("ss_epoch", "10", "training epochs", "10"),
    ("training_info.epoch", "12", "training epochs", "12"),
    ("epoch", "12", "training epochs", "12"),
    ("ss_num_epochs", "10", "training epochs", "10"),
    ("ss_num_train_images", "120", "training images", "120"),
    ("modelspec.date", "2026-05-28T20:26:40", "date", "2026-05-28"),
    ("general.date", "2026-05-28", "date", "2026-05-28"),
    ("ss_training_finished_at", "1780000000.25", "date", "2026-05-28"),
    ("ss_training_started_at", "1780000000.25", "date", "2026-05-28"),
    ("modelspec.hash_sha256", "0xabcdef", "hash", "abcdef"),
    ("sshs_model_hash", "abcdef", "hash", "abcdef"),
    ("sshs_legacy_hash", "abcdef", "hash", "abcdef"),
    ("general.source.huggingface.repository", "org/name", "repository", "org/name"),
    ("general.source.repo_url", "https://huggingface.co/org/name", "repository", "https://huggingface.co/org/name"),
    ("general.repo_url", "https://huggingface.co/org/name", "repository", "https://huggingface.co/org/name"),
]
"""Raw key and value, label and what is shown."""


@pytest.mark.parametrize(("key", "value", "label", "shown"), ROWS)
def test_raw_keys_become_facts_in_peoples_terms(key: str, value: str, label: str, shown: str) -> None:
    assert facts_from(**{key: value}) == {label: shown}


def test_each_key_of_the_table_has_a_row_above() -> None:
    in_table = {(key, label) for label, keys, _ in FIELDS for key in keys} | {(key, "repository") for key in REPOSITORIES}
    assert in_table == {(key, label) for key, _, label, _ in ROWS}


@pytest.mark.parametrize("label", [label for label, _, _ in FIELDS])
def test_of_several_keys_the_first_in_the_table_counts(label: str) -> None:
    values = {key: (value, shown) for key, value, named, shown in ROWS if named == label}
    keys = next(keys for named, keys, _ in FIELDS if named == label)
    for number, key in enumerate(keys):
        stated = {later: values[later][0] for later in reversed(keys[number:])}
        assert facts_from(**stated)[label] == values[key][1]


def test_what_users_are_told_of_the_precedence_is_the_table() -> None:
    lines = (Path(__file__).parents[3] / "docs" / "metadata.md").read_text().splitlines()
    told = {cells[1].strip(): re.findall(r"`([^`]+)`", cells[2]) for line in lines if len(cells := line.split("|")) == 4}
    assert {label: list(keys) for label, keys, _ in FIELDS} == {label: told[label] for label, _, _ in FIELDS}
    assert list(REPOSITORIES) == told["repository"][-len(REPOSITORIES) :]
    assert [label for label in told if label in {named for named, _, _ in FIELDS}] == [label for label, _, _ in FIELDS]


@pytest.mark.parametrize("blank", ["", "  ", "None", "null"])
def test_a_blank_value_is_no_fact_and_the_next_key_is_asked(blank: str) -> None:
    assert facts_from(**{"modelspec.title": blank, "ss_output_name": "my_lora"}) == {"title": "my_lora"}


@pytest.mark.parametrize("date", ["soon", "1e400", "-1e18", "nan"])
def test_a_date_that_is_none_is_left_out(date: str) -> None:
    assert facts_from(**{"modelspec.date": date}) == {}


def test_the_standard_stands_above_a_tools_own_words() -> None:
    assert facts_from(**{"ss_output_name": "my_lora", "modelspec.title": "My LoRA"}) == {"title": "My LoRA"}


def test_precision_in_the_file_and_in_memory_are_told_apart() -> None:
    model = a_model(files=[FILE], dtypes={"bfloat16": 2 * GIB})
    catalogue = a_catalogue(some_facts(FILE, dtypes={"float8_e4m3fn": GIB, "float32": 2 * MIB}))
    facts = facts_from_files(enriched(model, catalogue))
    assert facts["precision in file"] == "float8_e4m3fn 1.0 GB, float32 2.0 MB"
    assert facts["precision in memory"] == "bfloat16"


def test_a_hub_caches_path_names_its_repository() -> None:
    path = "/home/ada/.cache/huggingface/hub/models--Wan-AI--Wan2.2-T2V/snapshots/abc/model.safetensors"
    assert facts_from_files(enriched(a_model(files=[path]), NOTHING))["repository"] == "Wan-AI/Wan2.2-T2V"


def test_weights_with_something_merged_into_them_are_said_to_be_patched() -> None:
    model = recognised(ValuesMatch((TUNE,), (), 13, 16))
    assert (model.name, model.confidence) == ("my-tune", 0.75)
    assert facts_from_files(enriched(model, NOTHING))["values"] == "patched: 13 of 16 sampled tensors match the file"


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ((13, 16, 217, 265), "patched: 217 of 265 tensors match the file"),
        ((13, 16, None, None), "patched: 13 of 16 sampled tensors match the file"),
        ((16, 16, None, None), "16 of 16 sampled tensors match the file"),
        ((0, 16, None, None), "changed since it was loaded: 0 of 16 sampled tensors match the file"),
    ],
)
def test_how_far_the_values_agree_is_said_of_all_tensors_where_the_sidecar_counted_them(
    counts: tuple[int, int, int | None, int | None], said: str
) -> None:
    samples, tensors = counts[:2], counts[2:]
    model = replace(
        a_model("my-tune", files=[TUNE]),
        matched_samples=samples[0],
        compared_samples=samples[1],
        matched_tensors=tensors[0],
        compared_tensors=tensors[1],
    )
    assert facts_from_files(enriched(model, NOTHING))["values"] == said


def test_hostile_metadata_is_made_visible() -> None:
    one = enriched(a_model("a\x1b]0;owned\x07b", metadata={"modelspec.title": "x\u202eexe.\x00"}), NOTHING)
    facts = facts_from_files(one)
    assert one.shown_name == "a\\x1b]0;owned\\x07b"
    assert facts["title"] == "x\\u202eexe.\\x00"
