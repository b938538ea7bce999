"""What the files of a model say together, and the configs beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from gpumodels_shared.schema import Model
from gpumodels_tui.catalogue.facts import CatalogueState, FileFacts
from gpumodels_tui.view.builder import build_view
from gpumodels_tui.view.enrichment import enriched, facts_from_files
from snapshots import GIB, NOON_NS, a_catalogue, a_feed, a_model, a_snapshot, some_facts, some_hardware

FILE = "/models/loras/MyLoRA.safetensors"


NOTHING = CatalogueState()


def beside(name: str, config: Mapping[str, str], directory: str = "/models/m", config_name: str = "config") -> dict[str, str]:
    """Facts of a file of this name with a config beside it."""
    facts = FileFacts(f"{directory}/{config_name}.json", 10, NOON_NS, "config", config)
    file = f"{directory}/{name}"
    return facts_from_files(enriched(a_model(files=[file], dtypes={}), a_catalogue(facts, some_facts(file))))


def test_a_config_beside_tells_of_a_file_without_a_name_of_its_own() -> None:
    config = {"architectures": "BertModel", "model_type": "bert", "_name_or_path": "org/base"}
    told = {"architecture": "BertModel", "base model": "org/base"}
    for name in ("model.safetensors", "diffusion_pytorch_model.fp16.safetensors", "model-00001-of-00002.safetensors"):
        assert beside(name, config) == told
    assert beside("realistic-v5.safetensors", config) == {}


def test_an_adapters_config_tells_its_base_rank_and_alpha() -> None:
    config = {
        "base_model_name_or_path": "org/base",
        "r": "8",
        "lora_alpha": "16",
    }
    told = beside("adapter_model.safetensors", config, config_name="adapter_config")
    assert told == {"base model": "org/base", "rank": "8", "alpha": "16"}


def test_a_rank_that_nobody_stated_is_told_by_the_shapes() -> None:
    facts = replace(some_facts(FILE), rank=16)
    assert facts_from_files(enriched(a_model(files=[FILE], dtypes={}), a_catalogue(facts))) == {"rank": "16"}
    stated = replace(some_facts(FILE, {"ss_network_dim": "8"}), rank=16)
    assert facts_from_files(enriched(a_model(files=[FILE], dtypes={}), a_catalogue(stated))) == {"rank": "8"}


def test_what_the_file_says_stands_above_the_config_beside_it() -> None:
    config = FileFacts("/m/config.json", 10, NOON_NS, "config", {"model_type": "bert"})
    file = some_facts("/m/model.safetensors", {"modelspec.architecture": "flux-1-dev"})
    facts = facts_from_files(enriched(a_model(files=["/m/model.safetensors"], dtypes={}), a_catalogue(config, file)))
    assert facts == {"architecture": "flux-1-dev"}


def test_a_blobs_symlink_leads_to_its_config_and_repository() -> None:
    snapshot = "/hub/models--org--name/snapshots/r1"
    config = FileFacts(f"{snapshot}/config.json", 10, NOON_NS, "config", {"model_type": "bert"})
    blob = FileFacts("/hub/x/0f", 10, NOON_NS, "safetensors", aliases=(f"{snapshot}/model.safetensors",))
    facts = facts_from_files(enriched(a_model(files=["/hub/x/0f"], dtypes={}), a_catalogue(config, blob)))
    assert facts == {"architecture": "bert", "repository": "org/name"}


def test_in_a_hugging_face_cache_configs_are_those_of_the_snapshot_that_was_loaded() -> None:
    """Two revisions share a blob; their configs differ. `blobs/<hash>` is no name of a config."""
    top = "/hub/models--org--name"
    old = FileFacts(f"{top}/blobs/{'a' * 40}", 10, NOON_NS, "config", {"r": "8", "lora_alpha": "16"})
    new = FileFacts(f"{top}/blobs/{'b' * 40}", 10, NOON_NS, "config", {"r": "8", "lora_alpha": "32"})
    names = [f"{top}/snapshots/{revision}/adapter_model.safetensors" for revision in ("r1", "r2")]
    blob = FileFacts(f"{top}/blobs/{'c' * 64}", 10, NOON_NS, "safetensors", aliases=tuple(names))
    by_path = dict.fromkeys((blob.path, *names), blob)
    by_path |= {f"{top}/snapshots/r1/adapter_config.json": old, f"{top}/snapshots/r2/adapter_config.json": new}
    catalogue = CatalogueState(by_path)
    told = enriched(a_model(files=[names[1]], dtypes={}), catalogue).metadata
    assert told == {"adapter_config.r": "8", "adapter_config.lora_alpha": "32"}
    of_which_is_unknown = enriched(a_model(files=[blob.path], dtypes={}), catalogue).metadata
    assert of_which_is_unknown == {"adapter_config.r": "8"}


def test_one_file_under_two_names_is_each_of_them() -> None:
    both = FileFacts("/hub/blobs/0f", 10, NOON_NS, "config", {"model_type": "bert"})
    names = ("/m/config.json", "/m/adapter_config.json")
    catalogue = CatalogueState({**dict.fromkeys(names, both), "/m/model.safetensors": some_facts("/m/model.safetensors")})
    told = enriched(a_model(files=["/m/model.safetensors"], dtypes={}), catalogue).metadata
    assert told == {"config.model_type": "bert", "adapter_config.model_type": "bert"}


def test_a_file_that_took_the_place_of_the_one_that_was_loaded_says_nothing_of_the_model() -> None:
    model = a_model(files=[FILE], dtypes={}, metadata={"modelspec.title": "as loaded"})
    catalogue = a_catalogue(replace(some_facts(FILE, {"ss_network_dim": "32"}, {"float32": GIB}), rank=32))
    now = catalogue.by_path[FILE]
    same = replace(model, file_stamps=((now.size_bytes, now.modified_ns),))
    assert facts_from_files(enriched(same, catalogue))["rank"] == "32"
    other = replace(model, file_stamps=((now.size_bytes, now.modified_ns - 1),))
    assert facts_from_files(enriched(other, catalogue)) == {"title": "as loaded"}


def test_what_the_sidecar_saw_at_loading_stands_above_what_the_file_says_now() -> None:
    model = a_model(files=[FILE], metadata={"modelspec.title": "as loaded"})
    catalogue = a_catalogue(some_facts(FILE, {"modelspec.title": "overwritten since", "ss_tag_frequency": "{}"}))
    assert enriched(model, catalogue).metadata == {"modelspec.title": "as loaded", "ss_tag_frequency": "{}"}


PACKED = {"int32": GIB, "float16": GIB // 8}


def precision_of_model(model: Model, *files: FileFacts) -> str | None:
    return enriched(model, a_catalogue(*files)).model.precision


def test_precision_is_that_of_the_config_beside_or_of_the_file() -> None:
    config = FileFacts("/m/config.json", 10, NOON_NS, "config", precision="int4 AutoRound")
    file = replace(some_facts("/m/model.safetensors"), precision="int4 GPTQ")
    model = a_model(files=["/m/model.safetensors"], dtypes=PACKED)
    assert precision_of_model(model, config, file) == "int4 AutoRound"
    assert precision_of_model(model, file) == "int4 GPTQ"
    assert precision_of_model(model) is None
    assert precision_of_model(replace(model, precision="int4 GPTQ"), config, file) == "int4 AutoRound"
    assert precision_of_model(replace(model, precision="nf4"), config, file) == "nf4"
    named = replace(file, path="/m/acme.safetensors")
    assert precision_of_model(a_model(files=["/m/acme.safetensors"], dtypes=PACKED), config, named) == "int4 GPTQ"


def test_a_file_that_was_unpacked_when_it_was_loaded_is_called_by_its_dtypes() -> None:
    file = replace(some_facts("/m/acme.gguf"), precision="Q4_K_M")
    assert precision_of_model(a_model(files=["/m/acme.gguf"], dtypes={"bfloat16": GIB}), file) is None
    assert precision_of_model(a_model(files=["/m/acme.gguf"], dtypes={"Q4_K": GIB, "Q6_K": GIB // 4}), file) == "Q4_K_M"
    assert precision_of_model(a_model(dtypes={"Q4_K": GIB, "Q6_K": GIB // 4})) == "Q4_K"


def test_of_a_ggufs_shards_the_one_that_states_its_file_type_counts() -> None:
    paths = [f"/m/acme-0000{number}-of-00002.gguf" for number in (1, 2)]
    first, second = (replace(some_facts(path), size_bytes=size) for path, size in zip(paths, (10, 20), strict=True))
    files = replace(first, precision="Q4_K_M"), replace(second, precision="Q4_K")
    model = a_model(files=paths, dtypes={"Q4_K": GIB, "Q6_K": GIB // 4})
    assert precision_of_model(model, *files) == precision_of_model(model, *reversed(files)) == "Q4_K_M"


def test_precision_is_among_the_facts_and_in_place_of_the_dtype() -> None:
    model = replace(a_model(dtypes=PACKED), precision="int4 GPTQ\x1b[2J")
    assert facts_from_files(enriched(model, NOTHING))["precision"] == "int4 GPTQ\\x1b[2J"
    (row, *_) = [
        row for device in build_view(a_feed(a_snapshot(model)), some_hardware(), NOTHING).devices for row in device.models
    ]
    assert row.dtype == "int4 GPTQ\\x1b[2J"
