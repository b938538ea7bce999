"""Tests of what the models of a process without a sidecar are called, and how that is known."""

from __future__ import annotations

import pytest

from gpumodels_shared.records import replace
from gpumodels_tui.catalogue.facts import CatalogueState
from gpumodels_tui.outside.facts import NOTHING, KnownBy, OutsideFacts, OutsideModel
from gpumodels_tui.view.outside_models import ShownModels, in_words, model_name, shown_models, summary
from snapshots import GIB, a_catalogue, some_facts

HASH = "a" * 64
SHARDS = tuple(f"/m/Big-Q4_K_M-{number:05d}-of-00003.gguf" for number in (1, 2, 3))
HUB = "/c/models--Qwen--Qwen3-8B/snapshots/1/model.safetensors"


def mapped(*files: str, stated: tuple[str, ...] = (), is_here: bool = True) -> OutsideModel:
    return OutsideModel(KnownBy.MAPPED, files, stated, file_bytes=5 * GIB, mapped_bytes=5 * GIB, is_here=is_here)


def shown(model: OutsideModel, catalogue: CatalogueState | None = None) -> str:
    (one,) = shown_models(OutsideFacts((model,)), catalogue or CatalogueState())
    return f"{one.name} ({one.how})"


@pytest.mark.parametrize(
    ("model", "line", "name"),
    [
        (mapped("/m/Qwen3-8B-Q4_K_M.gguf"), "Qwen3-8B-Q4_K_M.gguf (mapped)", "Qwen3-8B"),
        (mapped(*SHARDS), "Big-Q4_K_M.gguf (mapped)", "Big"),
        (mapped(HUB), "Qwen/Qwen3-8B (mapped)", "Qwen/Qwen3-8B"),
        (mapped("/models/Flux/model.safetensors"), "Flux (mapped)", "Flux"),
        (mapped("/models/model.gguf"), "model.gguf (mapped)", None),
        (mapped(f"/o/blobs/sha256-{HASH}", stated=("llama3.2:3b",)), "llama3.2:3b (mapped)", "llama3.2:3b"),
        (mapped(f"/o/blobs/sha256-{HASH}", stated=("a:1", "b:1")), "a:1 or b:1 (mapped)", "a:1 or b:1"),
        (mapped(f"/o/blobs/sha256-{HASH}"), f"sha256-{HASH} (mapped)", None),
        (replace(mapped("/m/a.gguf"), is_deleted=True), "a.gguf (mapped, deleted since)", "a"),
        (OutsideModel(KnownBy.OPEN, ("/m/a.gguf",)), "a.gguf (open)", "a"),
        (OutsideModel(KnownBy.SERVER, stated=("/m/Qwen3-8B-Q8_0.gguf",)), "Qwen3-8B (its server says)", "Qwen3-8B"),
        (OutsideModel(KnownBy.ARGUMENT, stated=("Qwen/Qwen3-8B",)), "Qwen/Qwen3-8B (in its arguments)", "Qwen/Qwen3-8B"),
        (OutsideModel(KnownBy.ARGUMENT, stated=("/m/Qwen3-8B/",)), "Qwen3-8B (in its arguments)", "Qwen3-8B"),
        (OutsideModel(KnownBy.ARGUMENT, ("/m/a.gguf",), ("./a.gguf",)), "a.gguf (in its arguments)", "a"),
    ],
)
def test_a_model_is_called_by_its_file_or_by_the_rules_for_all(model: OutsideModel, line: str, name: str | None) -> None:
    assert shown(model) == line
    assert model_name(model, CatalogueState()) == name


def test_what_the_file_states_names_it_where_its_path_does_not_and_only_if_it_is_that_file() -> None:
    catalogue = a_catalogue(some_facts("/models/model.safetensors", {"modelspec.title": "My Net", "model_type": ""}))
    assert shown(mapped("/models/model.safetensors"), catalogue) == "My Net (mapped)"
    assert shown(mapped("/models/model.safetensors", is_here=False), catalogue) == "model.safetensors (mapped)"


def test_a_row_says_the_first_and_how_many_are_known_alike() -> None:
    argument = OutsideModel(KnownBy.ARGUMENT, stated=("org/n",))
    assert summary(shown_models(OutsideFacts((mapped("/m/a.gguf"), mapped("/m/b.gguf"), argument)), CatalogueState())) == (
        "a.gguf and 1 more",
        "mapped",
    )
    assert summary(shown_models(OutsideFacts((argument,)), CatalogueState())) == ("org/n", "in its arguments")
    assert summary(()) == ("", "")


def test_the_line_of_the_facts_gives_no_bytes_to_a_device() -> None:
    catalogue = a_catalogue(some_facts("/m/a.gguf", {"general.name": "A"}))
    (one,) = shown_models(OutsideFacts((mapped("/m/a.gguf"),)), catalogue)
    assert in_words(one) == "a.gguf (mapped), a file of 5.0 GB, A"
    (part,) = shown_models(OutsideFacts((replace(mapped(*SHARDS), mapped_bytes=GIB),)), catalogue)
    assert in_words(part) == "Big-Q4_K_M.gguf (mapped), 3 files of 5.0 GB, 1.0 GB mapped"
    (said,) = shown_models(OutsideFacts((OutsideModel(KnownBy.ARGUMENT, stated=("org/n",), said_by="--model"),)), catalogue)
    assert in_words(said) == "org/n (in its arguments: --model)"


def test_hostile_names_are_safe_to_draw() -> None:
    for model in (mapped("/m/\x1b[2J\n.gguf"), OutsideModel(KnownBy.ARGUMENT, stated=("\x1b]0;x\x07" * 1000,), said_by="\x1b")):
        (one,) = shown_models(OutsideFacts((model,)), CatalogueState())
        assert not set(one.name + in_words(one)) & {"\x1b", "\n", "\x07"}
        assert len(one.name) <= 4 * 300


def test_what_is_shown_is_made_again_only_when_something_changes() -> None:
    made, facts, catalogue = ShownModels(), OutsideFacts((mapped("/m/a.gguf"),)), CatalogueState()
    first = made.of(7, facts, catalogue)
    assert made.of(7, facts, catalogue) is first
    assert made.of(7, OutsideFacts((mapped("/m/b.gguf"),)), catalogue)[0].name == "b.gguf"
    assert made.of(8, NOTHING, catalogue) == ()
    made.keep({8})
    assert made.of(7, facts, catalogue) is not first
