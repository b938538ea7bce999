"""Tests of which files stand for one model: alone, by an index beside them, or by their numbers."""

from __future__ import annotations

import pytest

from gpumodels_tui.catalogue.candidates import candidates_among
from gpumodels_tui.headers.stored_tensors import unpacked_shapes
from known_files import a_known_file


def test_shards_are_one_candidate_with_all_their_shapes() -> None:
    one, two = a_known_file("/m/1.safetensors", (4, 4)), a_known_file("/m/2.safetensors", (8, 8))
    index = a_known_file("/m/model.safetensors.index.json", shards=("1.safetensors", "2.safetensors"))
    (candidate,) = candidates_among([one, index, two])
    assert candidate.names == ("/m/1.safetensors", "/m/2.safetensors")
    assert [unpacked_shapes(packed) for packed in candidate.shapes] == [{(4, 4)}, {(8, 8)}]


def test_an_index_with_a_missing_shard_leaves_the_others_to_themselves() -> None:
    one, index = a_known_file("/m/1.safetensors", (4, 4)), a_known_file("/m/i.json", shards=("1.safetensors", "2.safetensors"))
    (candidate,) = candidates_among([one, index])
    assert candidate.names == ("/m/1.safetensors",)


@pytest.mark.parametrize("suffix", ["safetensors", "gguf"])
def test_numbered_shards_without_an_index_are_one_candidate_where_all_are_there(suffix: str) -> None:
    one, two = (a_known_file(f"/m/llm-0000{number}-of-00002.{suffix}", (4, 4)) for number in (1, 2))
    other = a_known_file(f"/m/other.{suffix}", (4, 4))
    names = [candidate.names for candidate in candidates_among([two, other, one])]
    assert names == [(one.facts.path, two.facts.path), (other.facts.path,)]
    assert [candidate.names for candidate in candidates_among([two])] == [(two.facts.path,)]


def test_shards_of_another_count_beside_them_are_another_model() -> None:
    old = [a_known_file(f"/m/llm-0000{number}-of-00002.gguf", (4, 4)) for number in (1, 2)]
    new = [a_known_file(f"/m/llm-0000{number}-of-00003.gguf", (4, 4)) for number in (1, 2, 3)]
    names = [candidate.names for candidate in candidates_among([*old, *new])]
    assert names == [tuple(file.facts.path for file in together) for together in (old, new)]


@pytest.mark.parametrize("pattern", ["llm-{}-of-2", "llm-{:05d}-of-000002", "llm-{:05d}-of-00002.fp16", "llm.fp16-{:03d}-of-002"])
def test_shards_numbered_in_any_way_are_one_candidate(pattern: str) -> None:
    files = [a_known_file(f"/m/{pattern.format(number)}.safetensors", (4, 4)) for number in (1, 2)]
    variant = [a_known_file(f"/m/ema-{pattern.format(number)}.safetensors", (4, 4)) for number in (1, 2)]
    names = [candidate.names for candidate in candidates_among([files[1], variant[0], files[0], variant[1]])]
    assert sorted(names) == sorted(tuple(file.facts.path for file in together) for together in (files, variant))


def test_a_variant_named_behind_the_number_is_a_checkpoint_of_its_own() -> None:
    full = [a_known_file(f"/m/llm-0000{number}-of-00002.safetensors", (4, 4)) for number in (1, 2)]
    half = [a_known_file(f"/m/llm-0000{number}-of-00002.fp16.safetensors", (4, 4)) for number in (1, 2)]
    names = [candidate.names for candidate in candidates_among([half[1], full[0], half[0], full[1]])]
    assert sorted(names) == sorted(tuple(file.facts.path for file in together) for together in (full, half))


def test_as_many_files_as_there_are_shards_are_no_checkpoint_if_one_is_missing() -> None:
    files = [a_known_file(f"/m/llm-{number}-of-2.gguf", (4, 4)) for number in (0, 2)]
    assert [candidate.names for candidate in candidates_among(files)] == [(file.facts.path,) for file in files]


def test_shards_in_a_hub_are_found_by_their_symlinks() -> None:
    one = a_known_file("/hub/blobs/0f", (4, 4), aliases=("/hub/snapshots/x/1.safetensors",))
    index = a_known_file("/hub/blobs/1e", aliases=("/hub/snapshots/x/i.json",), shards=("1.safetensors",))
    (candidate,) = candidates_among([one, index])
    assert candidate.files[0][0] == "/hub/blobs/0f"


def test_a_file_whose_values_cannot_be_read_is_no_candidate() -> None:
    assert candidates_among([a_known_file("/m/old.ckpt")]) == []
    shards = [a_known_file("/m/llm-00001-of-00002.gguf", (4, 4)), a_known_file("/m/llm-00002-of-00002.gguf")]
    assert candidates_among(shards) == []


def test_a_candidate_is_another_one_when_any_of_its_files_changes() -> None:
    one, two = (a_known_file(f"/m/llm-0000{number}-of-00002.gguf", (4, 4), modified_ns=number) for number in (1, 2))
    (before,) = candidates_among([one, two])
    (same,) = candidates_among([two, one])
    (after,) = candidates_among([one, a_known_file("/m/llm-00002-of-00002.gguf", (4, 4), modified_ns=3)])
    assert before.key == same.key != after.key
    assert (before.modified_ns, after.modified_ns) == (2, 3)
