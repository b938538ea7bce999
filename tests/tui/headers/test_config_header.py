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
        "config.model_type": "bert",
        "config.architectures": "BertModel",
        "config.hidden_size": "384",
        "config.tie": "true",
    }


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b'{"a": "\xff"}', b"[" * 100_000, b'"x"', b" " * 3_000_000])
def test_a_config_that_is_none_gives_a_reason(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    assert reply_about(path, "config.json").reason


def test_a_few_words_are_one_text_and_longer_lists_stay_behind(tmp_path: Path) -> None:
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({"r": 8, "target_modules": ["q_proj", "v_proj"], "vocabulary": ["x"] * 17, "rank_pattern": {}}))
    assert header_of(path, "config.json").metadata == {"adapter_config.r": "8", "adapter_config.target_modules": "q_proj, v_proj"}


@pytest.mark.parametrize(("content", "unfinished"), [(b'{"a":', True), (b"[1]", False)])
def test_a_config_that_is_cut_off_may_still_be_written(tmp_path: Path, content: bytes, unfinished: bool) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    assert reply_about(path, "config.json").unfinished is unfinished
