from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from gpumodels.provenance.files_named import FilesNamed, NamingRun
from gpumodels.provenance.files_read import FilesRead


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """ComfyUI's folder of models, registered as it registers them."""
    paths: dict[str, object] = {
        name: ([str(tmp_path / name), str(tmp_path / "more" / name)], {".safetensors", ".pth"})
        for name in ("checkpoints", "vae", "custom_nodes")
    }
    paths |= {"odd": None, "odder": ("not a list", {})}
    for name in ("checkpoints", "vae", "custom_nodes"):
        (tmp_path / name).mkdir()
    module = ModuleType("folder_paths")
    module.folder_names_and_paths = paths  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "folder_paths", module)
    return tmp_path


def resolved(*names: str, read: FilesRead | None = None) -> list[str]:
    return [*FilesNamed(read or FilesRead()).resolve(names, 0, lambda: None)]


def a_file(path: Path, text: str = "") -> str:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(text)
    return str(path)


def test_a_name_means_the_file_in_one_of_the_folders(models: Path) -> None:
    one = a_file(models / "checkpoints" / "sd" / "one.safetensors")
    two = a_file(models / "more" / "vae" / "two.pth")
    assert resolved("sd/one.safetensors", "two.pth", "three.pth") == [one, two]


def test_a_file_that_is_named_twice_or_lies_under_two_paths_counts_once(models: Path) -> None:
    one = a_file(models / "checkpoints" / "one.pth")
    (models / "vae" / "link.pth").symlink_to(one)
    assert resolved("one.pth", "link.pth", one) == [one]


def test_files_outside_the_folders_are_not_named(models: Path) -> None:
    outside = a_file(models / "secret.pth")
    a_file(models / "custom_nodes" / "pack.pth")
    assert resolved("../secret.pth", outside, f"{models}/vae/../secret.pth", "pack.pth") == []


def test_of_files_with_the_same_name_the_one_that_was_read_is_meant(models: Path) -> None:
    a_file(models / "checkpoints" / "ae.pth", "1")
    vae = a_file(models / "vae" / "ae.pth", "22")
    read = FilesRead()
    assert resolved("ae.pth", read=read) == []
    read.add(vae)
    assert resolved("ae.pth", read=read) == [vae]


def test_without_comfyui_no_file_is_named(tmp_path: Path) -> None:
    assert "folder_paths" not in sys.modules
    assert resolved(a_file(tmp_path / "one.pth"), os.devnull) == []


def test_a_models_files_are_those_of_the_only_run_in_which_it_was_built() -> None:
    named = FilesNamed(FilesRead())
    named.put(NamingRun(1, 10, 20, ("one.pth",)))
    named.put(NamingRun(2, 30, None, ("two.pth",)))
    assert [named.named_when_built(at) for at in (0, 5, 10, 15, 20, 25, 30)] == [
        (), (), ("one.pth",), ("one.pth",), ("one.pth",), (), ("two.pth",),
    ]  # fmt: skip
    named.put(NamingRun(3, 35, 40, ()))
    assert [named.named_when_built(at) for at in (31, 37, 45)] == [("two.pth",), (), ("two.pth",)]


def test_the_version_changes_when_files_are_named() -> None:
    named = FilesNamed(FilesRead())
    versions = []
    for run in (NamingRun(1, 10, None, ()), NamingRun(1, 10, None, ("a",)), NamingRun(1, 10, 20, ("a",))):
        named.put(run)
        versions.append(named.version)
    assert versions == [0, 1, 1]
