"""Which files a name in a config means."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from gpumodels.naming.stated_files import MAX_CONFIG_FILES, files_at, was_read


def touched(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return str(path)


def test_a_directory_means_the_safetensors_in_it_and_one_level_below(tmp_path: Path) -> None:
    wanted = [touched(tmp_path / "model.safetensors"), touched(tmp_path / "unet" / "model.sft")]
    touched(tmp_path / "model.bin")
    touched(tmp_path / "unet" / "deeper" / "model.safetensors")
    assert files_at(str(tmp_path)) == tuple(wanted)
    assert files_at(wanted[0]) == (wanted[0],)


def test_a_repository_means_its_files_in_the_hubs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "huggingface_hub.constants", raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--org--name" / "snapshots" / "0a1b"
    assert files_at("org/name") == ()
    path = touched(snapshot / "model.safetensors")
    assert files_at("org/name") == files_at(" org/name ") == (path,)
    assert files_at("org/name/deeper") == ()


def test_the_hubs_cache_is_where_this_processs_variables_or_its_huggingface_hub_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = touched(tmp_path / "old" / "models--org--name" / "snapshots" / "0a1b" / "model.safetensors")
    known = touched(tmp_path / "known" / "models--org--name" / "snapshots" / "0a1b" / "model.safetensors")
    monkeypatch.delitem(sys.modules, "huggingface_hub.constants", raising=False)
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("DISK", str(tmp_path))
    monkeypatch.setenv("HUGGINGFACE_HUB_CACHE", "$DISK/old")
    assert files_at("org/name") == (older,)
    constants = ModuleType("huggingface_hub.constants")
    vars(constants)["HF_HUB_CACHE"] = str(tmp_path / "known")
    monkeypatch.setitem(sys.modules, "huggingface_hub.constants", constants)
    assert files_at("org/name") == (known,)


def test_only_so_many_files_are_listed(tmp_path: Path) -> None:
    for number in range(MAX_CONFIG_FILES + 1):
        touched(tmp_path / f"{number:03}.safetensors")
    assert len(files_at(str(tmp_path))) == MAX_CONFIG_FILES


@pytest.mark.parametrize("stated", ["", "x" * 300, "a\0b", "/nowhere/at/all", "./" + "y/" * 3000])
def test_what_is_no_usable_path_means_no_file(stated: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert files_at(stated) == ()


@pytest.mark.parametrize(
    ("stated", "path", "is_there"),
    [
        ("/m/tiny-sd", "/m/tiny-sd/unet/model.safetensors", True),
        ("/m/tiny-sd/", "/m/tiny-sd/model.safetensors", True),
        ("/m/tiny-sd", "/m/tiny-sd-2/model.safetensors", False),
        ("/m/a.safetensors", "/m/a.safetensors", True),
        ("org/name", "/cache/models--org--name/snapshots/0a/model.safetensors", True),
        ("org/name", "/m/org/name/model.safetensors", True),
        ("name", "/m/org/name/model.safetensors", False),
        ("org/name", "/cache/models--org--name-2/snapshots/0a/model.safetensors", False),
    ],
)
def test_a_file_was_read_from_where_a_config_says(stated: str, path: str, is_there: bool) -> None:
    assert was_read(stated, ["/m/another.safetensors", path]) is is_there


def test_without_a_working_directory_relative_names_are_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert not was_read("checkpoints/mine", ["/m/mine/model.safetensors"])
    assert files_at("checkpoints/mine") == ()
    monkeypatch.chdir(tmp_path)
