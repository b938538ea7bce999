"""Files that a store calls by a hash, and the symlinks by which people know them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from gpumodels.provenance import stored_files
from gpumodels.provenance.stored_files import StoredFiles
from loads import a_file, the_model
from modules import Attached, Backbone, attached

HASH = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


@pytest.fixture
def sidecar() -> Iterator[Attached]:
    with attached() as one:
        yield one
        assert one.failures.count == 0


def shared_blob(hub: Path, model: nn.Module | None = None, digest: str = HASH) -> Path:
    """A file as the Hugging Face cache shares it between repositories."""
    blob = hub / "blobs" / digest[:2] / digest
    blob.parent.mkdir(parents=True, exist_ok=True)
    return a_file(blob, model)


def snapshot(hub: Path, blob: Path, repository: str, name: str = "model.safetensors", revision: str = "0a1b") -> Path:
    """The file in a repository: a symlink to a symlink to the blob."""
    directory = hub / f"models--{repository.replace('/', '--')}"
    link, file = directory / "blobs" / "e7a9" / name, directory / "snapshots" / revision / name
    for one, target in ((link, blob), (file, link)):
        one.parent.mkdir(parents=True, exist_ok=True)
        if not one.is_symlink():
            one.symlink_to(os.path.relpath(target, one.parent))
    return file


def loaded(path: Path) -> Backbone:
    model = Backbone()
    model.load_state_dict(load_file(path), assign=True)
    return model


def test_a_model_loaded_by_a_shared_blobs_own_path_has_the_repositorys_name(sidecar: Attached, tmp_path: Path) -> None:
    blob = shared_blob(tmp_path)
    model = loaded(Path(os.path.realpath(snapshot(tmp_path, blob, "org/qwen"))))
    found = the_model(sidecar)
    assert (found.name, found.confidence, found.files) == ("org/qwen", 0.99, (str(blob),))
    model.get_parameter("blocks.0.q.weight").data.mul_(1.01)
    assert the_model(sidecar).matched_tensors == 11, "it is compared with its file, whatever that is called"


def test_revisions_of_one_repository_agree(sidecar: Attached, tmp_path: Path) -> None:
    blob = shared_blob(tmp_path)
    for revision in ("0a1b", "2c3d"):
        snapshot(tmp_path, blob, "org/qwen", revision=revision)
    model = loaded(blob)
    assert the_model(sidecar).name == "org/qwen"
    del model


def test_repositories_that_share_the_blob_are_candidates(sidecar: Attached, tmp_path: Path) -> None:
    blob = shared_blob(tmp_path)
    links = [str(snapshot(tmp_path, blob, repository)) for repository in ("org/qwen", "friend/qwen-copy")]
    model = loaded(blob)
    found = the_model(sidecar)
    assert (found.name, found.confidence) == ("Backbone", 0.5)
    assert sorted(found.candidates) == sorted(links)
    del model


def test_a_file_of_a_repository_of_several_is_known_by_its_own_name_too(sidecar: Attached, tmp_path: Path) -> None:
    blob = shared_blob(tmp_path)
    snapshot(tmp_path, blob, "org/many", "wan_high.safetensors")
    model = loaded(blob)
    assert the_model(sidecar).name == "org/many/wan_high"
    del model


def test_shards_that_a_store_keeps_under_their_hashes_are_one_checkpoint(sidecar: Attached, tmp_path: Path) -> None:
    whole = Backbone().state_dict()
    model = Backbone()
    for number, part in enumerate(("blocks.0", "blocks.1", "blocks.2"), 1):
        blob = tmp_path / "blobs" / f"{number}f" / f"{number}f{HASH[2:]}"
        blob.parent.mkdir(parents=True)
        save_file({key: value for key, value in whole.items() if key.startswith(part)}, blob)
        snapshot(tmp_path, blob, "org/large", f"model-0000{number}-of-00003.safetensors")
        model.load_state_dict(load_file(blob), strict=False, assign=True)
    found = the_model(sidecar)
    assert (found.name, found.confidence, len(found.files)) == ("org/large", 0.99, 3)


@pytest.mark.parametrize("store", ["models/blobs/sha256-{}", "cas/9f/{}", ".dvc/cache/files/md5/9f/{}"])
def test_a_stores_path_names_nothing_by_itself(sidecar: Attached, tmp_path: Path, store: str) -> None:
    path = tmp_path / store.format(HASH)
    path.parent.mkdir(parents=True)
    model = loaded(a_file(path))
    found = the_model(sidecar)
    assert (found.name, found.confidence, found.files) == ("Backbone", 0.5, (str(path),))
    del model


@pytest.mark.parametrize("store", [".git/annex/objects/x1/Zq/SHA256E-s9--{0}/SHA256E-s9--{0}", ".dvc/cache/files/md5/9f/{0}"])
def test_the_symlinks_of_a_working_directory_name_what_its_store_keeps(sidecar: Attached, tmp_path: Path, store: str) -> None:
    path = tmp_path / store.format(HASH)
    path.parent.mkdir(parents=True)
    a_file(path)
    link = tmp_path / "nets" / "tune_v1.safetensors"
    link.parent.mkdir()
    link.symlink_to(path)
    model = Backbone()
    torch.save(load_file(path), tmp_path / "other.pt")
    model.load_state_dict(load_file(path))
    assert the_model(sidecar).name == "tune_v1"


def test_a_file_with_a_name_of_its_own_is_not_searched_for(tmp_path: Path) -> None:
    paused: list[None] = []
    stored = StoredFiles(lambda: paused.append(None))
    assert stored.names_of(str(a_file(tmp_path / "tune_v1.safetensors"))) == ()
    assert not paused


def test_where_there_is_too_much_to_go_through_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = shared_blob(tmp_path)
    snapshot(tmp_path, blob, "org/qwen")
    assert len(StoredFiles(lambda: None).names_of(str(blob))) == 1
    monkeypatch.setattr(stored_files, "MAX_ENTRIES", 1)
    assert StoredFiles(lambda: None).names_of(str(blob)) == ()
