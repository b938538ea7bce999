"""Tests of what the snapshots ask of the catalogue."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from gpumodels_shared.schema import Fingerprint, Model, TensorSample
from gpumodels_tui.catalogue.watch import Catalogue
from gpumodels_tui.following import Following, files_named, needs_directories
from snapshots import GIB, a_feed, a_model, a_process, a_snapshot

FINGERPRINT = Fingerprint((TensorSample("w", "bfloat16", (4, 4), b"0123"),), 1)


class Asked(Catalogue):
    """A catalogue that only remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.files: list[str] = []
        self.fingerprints: list[Fingerprint] = []
        self.directories: list[Path | str] = []
        self.times = 0

    def follow(self, paths: Iterable[str]) -> None:
        self.times += 1
        self.files = list(paths)

    def find_files_of(self, fingerprints: Iterable[Fingerprint]) -> None:
        self.fingerprints = list(fingerprints)

    def add(self, directories: Iterable[Path | str]) -> None:
        self.directories += directories


def unnamed(name: str = "Net") -> Model:
    return replace(a_model(name, confidence=0.0, name_source="class"), fingerprint=FINGERPRINT)


def test_files_and_candidates_are_named_once() -> None:
    first = a_model("a", files=["/m/a.safetensors"], candidates=["/m/b.safetensors"])
    feed = a_feed(a_snapshot(first, a_model("c", files=["/m/a.safetensors", "/m/c.safetensors"])))
    assert files_named(feed) == ["/m/a.safetensors", "/m/b.safetensors", "/m/c.safetensors"]


def test_values_are_asked_for_where_no_file_is_known() -> None:
    sure = replace(a_model("sure", files=["/m/a.safetensors"]), fingerprint=FINGERPRINT)
    named_only = replace(a_model("org/name", name_source="config"), fingerprint=FINGERPRINT)
    assert not needs_directories(a_feed(a_snapshot(sure)))
    assert not needs_directories(a_feed(a_snapshot(a_model("plain", confidence=0.0))))
    by_node = replace(a_model("4x", confidence=0.65, name_source="node input", files=["/m/4x.pth"]), fingerprint=FINGERPRINT)
    for model in (unnamed(), named_only, by_node):
        catalogue = Asked()
        Following(catalogue).see(a_feed(a_snapshot(sure, model)))
        assert catalogue.fingerprints == [FINGERPRINT]
        assert needs_directories(a_feed(a_snapshot(model)))


def test_the_largest_models_names_are_wanted_most_and_of_equals_the_newests() -> None:
    prints = [Fingerprint((TensorSample("w", "bfloat16", (4, 4), str(number).encode()),), 1) for number in range(3)]
    models = [
        replace(a_model("Net", size, loaded_at_ns=loaded_at_ns), confidence=0.0, fingerprint=one)
        for (size, loaded_at_ns), one in zip(((GIB, 1), (2 * GIB, 1), (GIB, 2)), prints, strict=True)
    ]
    catalogue = Asked()
    Following(catalogue).see(a_feed(a_snapshot(*models)))
    assert catalogue.fingerprints == [prints[1], prints[2], prints[0]]


def test_what_stays_the_same_is_asked_for_once() -> None:
    catalogue, feed = Asked(), a_feed(a_snapshot(unnamed()))
    following = Following(catalogue)
    following.see(feed)
    following.see(feed)
    assert catalogue.times == 1


def test_a_live_comfyuis_folders_are_looked_through_where_that_is_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "comfy").mkdir()
    (tmp_path / "models").mkdir()
    for name in ("main.py", "folder_paths.py"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    feed = a_feed(a_snapshot(unnamed(), process=a_process(pid=os.getpid())))
    for wanted, directories in ((True, [tmp_path / "models"]), (False, [])):
        catalogue = Asked()
        Following(catalogue, with_model_folders=wanted).see(feed)
        assert catalogue.directories == directories
