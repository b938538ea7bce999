"""Tests of what ollama's manifests and Hugging Face's symlinks call files that are named by their content."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gpumodels_tui.outside.process_files import models_of
from gpumodels_tui.outside.stores import MOST_MANIFEST_BYTES, UNKNOWN, names_in_store
from model_files import write_model
from model_readers import reading

DIGEST = "6a0746a1ec1aef3e7ec53868f220ff6e389f6f8ef87a01d77c96807de94ca2aa"
MODEL = "application/vnd.ollama.image.model"


def ollama_blob(models: Path) -> Path:
    blob = models / "blobs" / f"sha256-{DIGEST}"
    return write_model(blob)


def manifest(models: Path, place: str, media_type: str = MODEL, digest: str = DIGEST) -> Path:
    path = models / "manifests" / place
    path.parent.mkdir(parents=True, exist_ok=True)
    layers = [{"mediaType": "application/vnd.ollama.image.license", "digest": f"sha256:{digest}", "size": 1}]
    layers += [{"mediaType": media_type, "digest": f"sha256:{digest}", "size": 2_019_377_376}]
    path.write_text(json.dumps({"schemaVersion": 2, "layers": layers}))
    return path


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("registry.ollama.ai/library/llama3.2/3b", "llama3.2:3b"),
        ("registry.ollama.ai/ada/mine/latest", "ada/mine:latest"),
        ("hf.co/bartowski/Qwen3-8B-GGUF/Q4_K_M", "hf.co/bartowski/Qwen3-8B-GGUF:Q4_K_M"),
    ],
)
def test_ollamas_manifests_say_what_a_blob_is_called(tmp_path: Path, place: str, name: str) -> None:
    blob = ollama_blob(tmp_path)
    manifest(tmp_path, place)
    manifest(tmp_path, "registry.ollama.ai/library/other/latest", digest="0" * 64)
    assert names_in_store(str(blob), "").names == (name,)


def test_a_blob_of_several_models_has_all_their_names_and_parts_are_called_so(tmp_path: Path) -> None:
    blob = ollama_blob(tmp_path)
    for place in ("registry.ollama.ai/library/llama3.2/latest", "registry.ollama.ai/library/llama3.2/3b"):
        manifest(tmp_path, place)
    manifest(tmp_path, "registry.ollama.ai/library/llava/7b", "application/vnd.ollama.image.projector")
    assert names_in_store(str(blob), "").names == ("llama3.2:3b", "llama3.2:latest", "llava:7b (projector)")


def test_a_process_that_maps_ollamas_blob_has_the_model(tmp_path: Path) -> None:
    blob = ollama_blob(tmp_path / "models")
    manifest(tmp_path / "models", "registry.ollama.ai/library/qwen3/8b")
    with reading("mapped", blob) as pid:
        (model,) = models_of(pid)
    assert (model.files, model.stated) == ((str(blob),), ("qwen3:8b",))


def test_hostile_manifests_name_nothing(tmp_path: Path) -> None:
    blob = ollama_blob(tmp_path)
    folder = tmp_path / "manifests" / "registry.ollama.ai" / "library" / "evil"
    folder.mkdir(parents=True)
    (folder / "json").write_text("[" * 100_000)
    (folder / "list").write_text('{"layers": 7}')
    (folder / "long").write_bytes(b'{"layers": []}' + b" " * MOST_MANIFEST_BYTES)
    os.mkfifo(folder / "fifo")
    (folder / "link").symlink_to(manifest(tmp_path / "elsewhere", "registry.ollama.ai/library/m/latest"))
    (folder / "loop").symlink_to(folder)
    assert names_in_store(str(blob), "") == UNKNOWN


def test_hugging_faces_blob_is_called_by_the_symlink_that_leads_to_it(tmp_path: Path) -> None:
    repository = tmp_path / "models--Qwen--Qwen3-8B"
    blob = write_model(repository / "blobs" / DIGEST)
    tokenizer = write_model(repository / "blobs" / ("1" * 64))
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").symlink_to(f"../../blobs/{DIGEST}")
    (snapshot / "tokenizer.json").symlink_to(f"../../blobs/{tokenizer.name}")
    with reading("mapped", blob, tokenizer) as pid:
        (model,) = models_of(pid)
    assert model.files == (str(snapshot / "model.safetensors"),)
    assert model.is_here


def test_where_the_processes_root_is_not_known_nothing_is_looked_for(tmp_path: Path) -> None:
    blob = ollama_blob(tmp_path)
    manifest(tmp_path, "registry.ollama.ai/library/m/latest")
    assert names_in_store(str(blob), None) == UNKNOWN
    assert names_in_store("/elsewhere/m.gguf", "") == UNKNOWN
