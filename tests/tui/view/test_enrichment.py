from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from gpumodels_shared.schema import Fingerprint, Model, TensorSample
from gpumodels_tui.catalogue.facts import CatalogueState, FileFacts, ValuesMatch
from gpumodels_tui.view.enrichment import enrich, identified, merged_metadata, stated_name
from gpumodels_tui.view.metadata_fields import FIELDS, REPOSITORIES
from snapshots import GIB, MIB, NOON_NS, a_catalogue, a_model, some_facts

FILE = "/models/loras/MyLoRA.safetensors"
NOTHING = CatalogueState()


def facts_from(**metadata: str) -> dict[str, str]:
    model = a_model(files=[FILE], dtypes={})
    return enrich(model, a_catalogue(some_facts(FILE, metadata)))[1]


ROWS = [
    ("modelspec.title", "My Fine Tune", "title", "My Fine Tune"),
    ("general.name", "Qwen2.5 7B", "title", "Qwen2.5 7B"),
    ("ss_output_name", "my_lora_v2", "title", "my_lora_v2"),
    ("title", "My LoRA", "title", "My LoRA"),
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
    ("adapter_config.r", "32", "rank", "32"),
    ("adapter.lora.alpha", "16.0", "alpha", "16.0"),
    ("ss_network_alpha", "16.0", "alpha", "16.0"),
    ("lora_alpha", "16", "alpha", "16"),
    ("alpha", "16", "alpha", "16"),
    ("adapter_config.lora_alpha", "16", "alpha", "16"),
    ("modelspec.trigger_phrase", "a photo of sks", "trigger words", "a photo of sks"),
    ("ss_trigger_words", "sks", "trigger words", "sks"),
    ("trigger_phrase", "sks", "trigger words", "sks"),
    ("trigger_words", "sks", "trigger words", "sks"),
    ("trigger_word", "sks", "trigger words", "sks"),
    ("instance_prompt", "a photo of sks", "trigger words", "a photo of sks"),
    ("ss_steps", "3200", "training steps", "3200"),
    ("ss_max_train_steps", "3200", "training steps", "3200"),
    ("ss_epoch", "10", "training epochs", "10"),
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
    facts = enrich(model, catalogue)[1]
    assert facts["precision in file"] == "float8_e4m3fn 1.0 GB, float32 2.0 MB"
    assert facts["precision in memory"] == "bfloat16"


def test_a_hub_caches_path_names_its_repository() -> None:
    path = "/home/ada/.cache/huggingface/hub/models--Wan-AI--Wan2.2-T2V/snapshots/abc/model.safetensors"
    assert enrich(a_model(files=[path]), NOTHING)[1]["repository"] == "Wan-AI/Wan2.2-T2V"


def beside(name: str, config: Mapping[str, str], directory: str = "/models/m", config_name: str = "config") -> dict[str, str]:
    """Facts of a file of this name with a config beside it."""
    facts = FileFacts(f"{directory}/{config_name}.json", 10, NOON_NS, "config", config)
    file = f"{directory}/{name}"
    return enrich(a_model(files=[file], dtypes={}), a_catalogue(facts, some_facts(file)))[1]


def test_a_config_beside_tells_of_a_file_without_a_name_of_its_own() -> None:
    config = {"config.architectures": "BertModel", "config.model_type": "bert", "config._name_or_path": "org/base"}
    told = {"architecture": "BertModel", "base model": "org/base"}
    for name in ("model.safetensors", "diffusion_pytorch_model.fp16.safetensors", "model-00001-of-00002.safetensors"):
        assert beside(name, config) == told
    assert beside("realistic-v5.safetensors", config) == {}


def test_an_adapters_config_tells_its_base_rank_and_alpha() -> None:
    config = {
        "adapter_config.base_model_name_or_path": "org/base",
        "adapter_config.r": "8",
        "adapter_config.lora_alpha": "16",
    }
    told = beside("adapter_model.safetensors", config, config_name="adapter_config")
    assert told == {"base model": "org/base", "rank": "8", "alpha": "16"}


def test_a_rank_that_nobody_stated_is_told_by_the_shapes() -> None:
    facts = structs.replace(some_facts(FILE), rank=16)
    assert enrich(a_model(files=[FILE], dtypes={}), a_catalogue(facts))[1] == {"rank": "16"}
    stated = structs.replace(some_facts(FILE, {"ss_network_dim": "8"}), rank=16)
    assert enrich(a_model(files=[FILE], dtypes={}), a_catalogue(stated))[1] == {"rank": "8"}


def test_what_the_file_says_stands_above_the_config_beside_it() -> None:
    config = FileFacts("/m/config.json", 10, NOON_NS, "config", {"config.model_type": "bert"})
    file = some_facts("/m/model.safetensors", {"modelspec.architecture": "flux-1-dev"})
    facts = enrich(a_model(files=["/m/model.safetensors"], dtypes={}), a_catalogue(config, file))[1]
    assert facts == {"architecture": "flux-1-dev"}


def test_a_blobs_symlink_leads_to_its_config_and_repository() -> None:
    snapshot = "/hub/models--org--name/snapshots/r1"
    config = FileFacts(f"{snapshot}/config.json", 10, NOON_NS, "config", {"config.model_type": "bert"})
    blob = FileFacts("/hub/x/0f", 10, NOON_NS, "safetensors", aliases=(f"{snapshot}/model.safetensors",))
    facts = enrich(a_model(files=["/hub/x/0f"], dtypes={}), a_catalogue(config, blob))[1]
    assert facts == {"architecture": "bert", "repository": "org/name"}


FINGERPRINT = Fingerprint((TensorSample("w", "bfloat16", (4, 4), b"0123"),), NOON_NS)
TUNE, TWIN = "/models/my-tune_fp16.safetensors", "/models/other-tune.safetensors"


def recognised(verdict: ValuesMatch, model: Model | None = None, **stated: str) -> Model:
    model = model or replace(a_model("WanModel", confidence=0.0, name_source="class"), fingerprint=FINGERPRINT)
    catalogue = a_catalogue(some_facts(TUNE, stated), some_facts(TWIN))
    return identified(model, structs.replace(catalogue, values={FINGERPRINT: verdict}))


def test_a_model_is_named_by_the_file_whose_values_it_holds() -> None:
    model = recognised(ValuesMatch((TUNE,), (), 16, 16))
    assert (model.name, model.name_source, model.confidence, model.files) == ("my-tune", "values", 0.97, (TUNE,))
    assert recognised(ValuesMatch((TUNE,), (), 16, 16), model_type="My-Tune-14B").name == "My-Tune-14B"


def test_weights_with_something_merged_into_them_are_said_to_be_patched() -> None:
    model = recognised(ValuesMatch((TUNE,), (), 13, 16))
    assert (model.name, model.confidence) == ("my-tune", 0.75)
    assert enrich(model, NOTHING)[1]["values"] == "patched: 13 of 16 sampled tensors match the file"


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
    assert enrich(model, NOTHING)[1]["values"] == said


def test_a_file_of_two_names_gives_none_but_lists_both() -> None:
    link = "/models/mine.safetensors"
    real = FileFacts(TUNE, 100, NOON_NS, "safetensors", aliases=(link,))
    model = replace(a_model("WanModel", confidence=0.0, name_source="class"), fingerprint=FINGERPRINT)
    found = identified(model, structs.replace(a_catalogue(real), values={FINGERPRINT: ValuesMatch((link,), (), 16, 16)}))
    assert (found.name, found.confidence, found.candidates) == ("WanModel", 0.0, (link, TUNE))
    blob = structs.replace(real, path="/hub/blobs/0f")
    found = identified(model, structs.replace(a_catalogue(blob), values={FINGERPRINT: ValuesMatch((link,), (), 16, 16)}))
    assert (found.name, found.candidates) == ("mine", ())


def test_a_file_that_took_the_place_of_the_one_that_was_loaded_says_nothing_of_the_model() -> None:
    model = a_model(files=[FILE], dtypes={}, metadata={"modelspec.title": "as loaded"})
    catalogue = a_catalogue(structs.replace(some_facts(FILE, {"ss_network_dim": "32"}, {"float32": GIB}), rank=32))
    now = catalogue.by_path[FILE]
    same = replace(model, file_stamps=((now.size_bytes, now.modified_ns),))
    assert enrich(same, catalogue)[1]["rank"] == "32"
    other = replace(model, file_stamps=((now.size_bytes, now.modified_ns - 1),))
    assert enrich(other, catalogue)[1] == {"title": "as loaded"}


def test_a_tie_is_no_name_but_its_candidates() -> None:
    model = recognised(ValuesMatch((), (TUNE, TWIN), 16, 16))
    assert (model.name, model.confidence, model.candidates) == ("WanModel", 0.0, (TUNE, TWIN))


def test_copies_of_one_name_are_one_name() -> None:
    model = recognised(ValuesMatch((), (TUNE, "/models/my-tune_bf16.safetensors"), 16, 16))
    assert (model.name, model.files) == ("my-tune", ())
    assert len(model.candidates) == 2


def test_shards_are_named_together() -> None:
    shards = tuple(f"/models/big-model-0000{number}-of-00002.safetensors" for number in (1, 2))
    model = recognised(ValuesMatch(shards, (), 16, 16))
    assert (model.name, model.files) == ("big-model", shards)


def test_a_model_of_several_files_has_all_their_names() -> None:
    model = recognised(ValuesMatch((TUNE, TWIN), (), 16, 16, ((TUNE,), (TWIN,))))
    assert (model.name, model.confidence, model.files) == ("my-tune + other-tune", 0.97, (TUNE, TWIN))
    nameless = "/model.safetensors"
    model = recognised(ValuesMatch((TUNE, nameless), (), 16, 16, ((TUNE,), (nameless,))))
    assert (model.name, model.confidence) == ("WanModel", 0.0)


def test_a_sure_name_is_kept_and_gains_the_file_that_nobody_knew() -> None:
    sure = replace(a_model("org/name", confidence=0.95, name_source="config"), fingerprint=FINGERPRINT)
    assert recognised(ValuesMatch((TUNE,), (), 16, 16), sure) == replace(sure, files=(TUNE,))
    assert recognised(ValuesMatch((TUNE,), (), 13, 16), sure) == sure
    assert recognised(ValuesMatch((), (TUNE, TWIN), 16, 16), sure) == sure


def test_shards_state_a_name_together() -> None:
    shards = [f"/m/model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    files = [some_facts(path, {"model_type": "Wan2_2"}, {"bfloat16": GIB}) for path in shards]
    model = a_model("WanModel", 2 * GIB, confidence=0.5, name_source="class", files=shards)
    assert identified(model, a_catalogue(*files)).name == "Wan2_2"


def test_what_the_sidecar_saw_at_loading_stands_above_what_the_file_says_now() -> None:
    model = a_model(files=[FILE], metadata={"modelspec.title": "as loaded"})
    catalogue = a_catalogue(some_facts(FILE, {"modelspec.title": "overwritten since", "ss_tag_frequency": "{}"}))
    assert merged_metadata(model, catalogue) == {"modelspec.title": "as loaded", "ss_tag_frequency": "{}"}


def test_a_name_that_the_sidecar_is_sure_of_is_kept() -> None:
    model = a_model("my-fine-tune", files=[FILE], confidence=0.95)
    assert enrich(model, a_catalogue(some_facts(FILE, {"model_type": "Wan2_2-T2V-A14B"})))[0] == "my-fine-tune"


def the_name(size: int = GIB, files: tuple[str, ...] = (FILE,), candidates: tuple[str, ...] = (), confidence: float = 0.5) -> str:
    """Of a model named after its class, whose file states a model_type and holds 1 GB."""
    model = a_model("WanModel", size, confidence=confidence, name_source="class", files=files, candidates=candidates)
    return enrich(model, a_catalogue(some_facts(FILE, {"model_type": "Wan2_2-T2V-A14B-HIGH"}, {"bfloat16": GIB})))[0]


def test_a_class_is_replaced_by_what_its_only_file_states() -> None:
    assert the_name() == "Wan2_2-T2V-A14B-HIGH"


def test_a_class_stays_where_the_file_may_not_be_the_model() -> None:
    assert the_name(size=3 * GIB) == "WanModel"
    assert the_name(size=100 * MIB) == "WanModel"
    assert the_name(files=(FILE, "/models/other.safetensors")) == "WanModel"
    assert the_name(files=("/models/unknown.safetensors",)) == "WanModel"
    assert the_name(candidates=(FILE, "/models/twin.safetensors")) == "WanModel"
    assert the_name(confidence=0.0) == "WanModel"  # the sidecar saw that less than half of it is from the file


def test_the_file_that_was_read_when_a_model_came_is_a_hint_with_a_question_mark() -> None:
    model = a_model("WanModel (wan)", confidence=0.3, name_source="recency", candidates=[TUNE])
    assert enrich(model, NOTHING)[0] == "WanModel (wan) · my-tune?"
    assert identified(model, NOTHING).name == "WanModel (wan)"
    nameless = replace(model, candidates=("/models/loras/model.safetensors",))
    assert enrich(nameless, NOTHING)[0] == "WanModel (wan)"


def test_a_guess_is_marked() -> None:
    model = a_model("probably", name_source="recency", confidence=0.3)
    assert enrich(model, NOTHING)[0] == "probably?"
    assert stated_name(model, NOTHING) is None


def searching(*files: FileFacts) -> CatalogueState:
    return structs.replace(a_catalogue(*files), unsettled=frozenset((FINGERPRINT,)))


def test_a_name_that_may_still_come_is_pending_and_the_class_or_a_guess_stands_meanwhile() -> None:
    model = replace(a_model("WanModel", confidence=0.0, name_source="class"), fingerprint=FINGERPRINT)
    found = identified(model, searching())
    assert (found.name, found.name_source, found.confidence) == ("WanModel", "pending", 0.0)
    assert identified(found, searching()) == found
    assert enrich(model, searching())[0] == "WanModel …"
    guess = replace(model, name="WanModel (wan)", name_source="recency", confidence=0.3, candidates=(TUNE,))
    assert enrich(guess, searching())[0] == "WanModel (wan) · my-tune? …"
    assert (identified(guess, searching()).name_source, identified(guess, searching()).candidates) == ("pending", (TUNE,))


def test_a_name_that_is_known_or_stated_is_not_pending() -> None:
    model = replace(a_model("WanModel", 2 * GIB, confidence=0.5, name_source="class", files=[FILE]), fingerprint=FINGERPRINT)
    stated = some_facts(FILE, {"model_type": "Wan2_2"}, {"bfloat16": 2 * GIB})
    assert (enrich(model, searching(stated))[0], identified(model, searching(stated)).name_source) == ("Wan2_2", "file metadata")
    known = structs.replace(searching(some_facts(TUNE)), values={FINGERPRINT: ValuesMatch((TUNE,), (), 16, 16)})
    assert (enrich(model, known)[0], identified(model, known).name_source) == ("my-tune", "values")
    sure = replace(a_model("org/name", confidence=0.95, name_source="config"), fingerprint=FINGERPRINT)
    assert (enrich(sure, searching())[0], identified(sure, searching()).name_source) == ("org/name", "config")


def test_what_the_process_itself_still_looks_for_is_pending_and_its_file_may_state_a_name() -> None:
    model = a_model("WanModel", 2 * GIB, confidence=0.5, name_source="pending", files=[FILE])
    assert enrich(model, NOTHING)[0] == "WanModel …"
    stated = a_catalogue(some_facts(FILE, {"model_type": "Wan2_2"}, {"bfloat16": 2 * GIB}))
    assert enrich(model, stated)[0] == "Wan2_2"


def test_hostile_metadata_is_made_visible() -> None:
    name, facts = enrich(a_model("a\x1b]0;owned\x07b", metadata={"modelspec.title": "x\u202eexe.\x00"}), NOTHING)
    assert name == "a\\x1b]0;owned\\x07b"
    assert facts["title"] == "x\\u202eexe.\\x00"
