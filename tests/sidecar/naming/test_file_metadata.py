"""How much metadata the sidecar takes from model files, inside the host: little, whatever they contain."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from gpumodels.naming.file_metadata import MAX_KEYS, MAX_TOTAL_LENGTH, FileMetadata
from gpumodels.provenance.files_read import stamp_of
from gpumodels.support.failures import Failures
from model_files import BROKEN, write_model


def said(path: Path) -> dict[str, str]:
    return dict(FileMetadata(Failures()).of(str(path), None))


def test_ordinary_metadata_come_as_they_are(tmp_path: Path) -> None:
    stated = {"modelspec.title": "Flüx", "ss_network_dim": "16"}
    assert said(write_model(tmp_path / "a.safetensors", metadata=stated)) == stated


@pytest.mark.parametrize(
    "stated",
    [
        {"comment": "x" * 10_000_000},
        {f"key {number}": "value" for number in range(100_000)},
        {"k" * 1_000_000: "v"},
        {f"key {number}": "x" * 2000 for number in range(150)},
        {"thumbnail": "data:image/png;base64," + "A" * 100_000},
    ],
    ids=["a value of 10 MB", "100,000 keys", "a key of 1 MB", "much of everything", "a thumbnail"],
)
def test_of_much_the_short_ones_are_kept(tmp_path: Path, stated: dict[str, str]) -> None:
    found = said(write_model(tmp_path / "a.safetensors", metadata={**stated, "modelspec.title": "A"}))
    assert found["modelspec.title"] == "A"
    assert len(found) <= MAX_KEYS
    assert sum(len(key) + len(value) for key, value in found.items()) <= MAX_TOTAL_LENGTH


def test_a_header_of_many_megabytes_is_left_to_the_viewer(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", 20_000_000) + b'{"__metadata__":{"a":"b"}' + b" " * 19_999_974 + b"}")
    assert said(path) == {}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_says_nothing_and_raises_nothing(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(BROKEN[kind][0])
    assert said(path) == {}


def test_of_a_file_that_was_replaced_only_metadata_read_before_is_known(tmp_path: Path) -> None:
    metadata = FileMetadata(Failures())
    path = write_model(tmp_path / "a.safetensors", metadata={"title": "first"})
    first = stamp_of(str(path))
    assert metadata.of(str(path), first) == {"title": "first"}
    os.utime(write_model(tmp_path / "b.safetensors", metadata={"title": "second"}), (1e9, 1e9))
    (tmp_path / "b.safetensors").replace(path)
    assert metadata.of(str(path), first) == {"title": "first"}
    assert metadata.of(str(path), None) == {"title": "second"}
    assert FileMetadata(Failures()).of(str(path), first) == {}
    path.unlink()
    assert metadata.of(str(path), first) == {"title": "first"}
    assert metadata.of(str(path), None) == {}
