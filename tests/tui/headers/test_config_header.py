"""Tests of the configs that lie beside model files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from header_replies import header_of, reply_about


def test_a_config_tells_its_top_level(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    config = {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "hidden_size": 384,
        "tie": True,
        "none": None,
        "id2label": {"0": "x"},
        "ids": [1, 2],
    }
    path.write_text(json.dumps(config))
    header = header_of(path, "config.json")
    assert header.format == "config"
    assert header.metadata == {
        "model_type": "bert",
        "architectures": "BertModel",
        "hidden_size": "384",
        "tie": "true",
    }


def test_a_config_says_how_the_weights_beside_it_are_quantized(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "llama", "quantization_config": {"quant_method": "gptq", "bits": 4}}))
    header = header_of(path, "config.json")
    assert (header.precision, header.metadata) == ("int4 GPTQ", {"model_type": "llama"})
    path.write_text(json.dumps({"quantization_config": [1]}))
    assert header_of(path, "config.json").precision is None


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b'{"a": "\xff"}', b"[" * 100_000, b'"x"', b" " * 3_000_000])
def test_a_config_that_is_none_gives_a_reason(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    assert reply_about(path, "config.json").reason


def test_a_few_words_are_one_text_and_longer_lists_stay_behind(tmp_path: Path) -> None:
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({"r": 8, "target_modules": ["q_proj", "v_proj"], "vocabulary": ["x"] * 17, "rank_pattern": {}}))
    assert header_of(path, "config.json").metadata == {"r": "8", "target_modules": "q_proj, v_proj"}


@pytest.mark.parametrize(("content", "unfinished"), [(b'{"a":', True), (b"[1]", False)])
def test_a_config_that_is_cut_off_may_still_be_written(tmp_path: Path, content: bytes, unfinished: bool) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    assert reply_about(path, "config.json").unfinished is unfinished


def test_keys_are_the_same_whatever_the_file_is_called(tmp_path: Path) -> None:
    """In a Hugging Face cache (huggingface_hub 1.x and before) it is `blobs/<hash>`, and the snapshot's symlink has the name."""
    blob = tmp_path / ("3a10ce" * 10 + "c553")
    blob.write_text(json.dumps({"r": 8}))
    assert header_of(blob, "config.json").metadata == {"r": "8"}


def test_a_config_of_the_usual_length_stays_complete_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    config = {f"some_setting_{number}": number for number in range(60)} | {"_name_or_path": "org/base"}
    path.write_text(json.dumps(config))
    header = header_of(path, "config.json")
    assert header.brief() is header
    path.write_text(json.dumps({f"some_setting_{number}": "x" * 60 for number in range(2_000)}))
    assert sum(map(len, header_of(path, "config.json").brief().metadata.values())) < 4_000
