"""Tests of the indexes that say which files are one model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gpumodels_tui.headers.headers import FileHeader
from gpumodels_tui.headers.shard_index import MAX_SHARDS
from header_replies import header_of, reply_about


def test_an_index_names_its_shards(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors.index.json"
    weight_map = {"a": "m-2.safetensors", "b": "m-1.safetensors", "c": "m-2.safetensors", "d": "../../etc/x", "e": 7}
    path.write_text(json.dumps({"weight_map": weight_map}))
    assert header_of(path, ".safetensors.index.json") == FileHeader(
        "index", tensors=5, shards=("m-1.safetensors", "m-2.safetensors")
    )
    path.write_text("{}")
    assert reply_about(path, ".safetensors.index.json").reason == "it has no weight_map"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b.safetensors", "/etc/passwd", "a\0.safetensors"])
def test_a_shard_lies_beside_its_index_and_nowhere_else(tmp_path: Path, name: str) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": {"a": name, "b": "m.safetensors"}}))
    assert header_of(path, ".safetensors.index.json").shards == ("m.safetensors",)


def test_an_index_of_thousands_of_shards_is_none(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": {str(number): f"{number}.safetensors" for number in range(MAX_SHARDS + 1)}}))
    assert reply_about(path, ".safetensors.index.json").reason == f"too many shards ({MAX_SHARDS + 1})"
