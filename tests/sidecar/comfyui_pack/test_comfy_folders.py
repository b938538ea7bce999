"""Which ComfyUI a path means."""

from __future__ import annotations

from pathlib import Path

import pytest

from comfy_folders import a_comfyui
from gpumodels.comfyui_pack.comfy_folders import NotComfyUIError, comfy_folder


def test_comfyuis_folder_and_what_is_in_it_mean_the_same_comfyui(tmp_path: Path) -> None:
    root = a_comfyui(tmp_path / "with a space" / "ComfyUI")
    found = comfy_folder(root)
    assert (found.base, found.program, found.custom_nodes) == (root, root, (root / "custom_nodes",))
    assert found.version == "0.33.0"
    for path in (root / "main.py", root / "custom_nodes", root.parent, root / "custom_nodes" / ".." / "comfy" / ".."):
        assert comfy_folder(path) == found


def test_relative_paths_and_the_home_directory_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = a_comfyui(tmp_path / "ComfyUI")
    monkeypatch.chdir(root)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert comfy_folder(Path()).base == comfy_folder(Path("~/ComfyUI")).base == root


def test_a_base_directory_has_custom_nodes_and_models_and_no_program(tmp_path: Path) -> None:
    for name in ("custom_nodes", "models", "user"):
        (tmp_path / name).mkdir()
    found = comfy_folder(tmp_path)
    assert (found.base, found.program, found.version) == (tmp_path, None, None)
    assert comfy_folder(tmp_path / "custom_nodes").custom_nodes == (tmp_path / "custom_nodes",)


def test_linked_custom_nodes_are_those_of_the_comfyui_that_links_them(tmp_path: Path) -> None:
    root = a_comfyui(tmp_path / "ComfyUI")
    (root / "custom_nodes").rmdir()
    (tmp_path / "shared" / "custom_nodes").mkdir(parents=True)
    (root / "custom_nodes").symlink_to(tmp_path / "shared" / "custom_nodes")
    assert comfy_folder(root).custom_nodes == (root / "custom_nodes",)
    (tmp_path / "ComfyUI_of_today").symlink_to(root)
    assert comfy_folder(tmp_path / "ComfyUI_of_today").base == tmp_path / "ComfyUI_of_today"


def test_folders_of_extra_model_paths_count_where_they_exist(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    (tmp_path / "more" / "custom_nodes").mkdir(parents=True)
    (tmp_path / "ComfyUI" / "mine").mkdir(parents=True)
    stated = f"a:\n  base_path: {tmp_path}/more\n  custom_nodes: |\n    custom_nodes\n    nowhere\nb:\n  custom_nodes: mine\nc:\n"
    root = a_comfyui(tmp_path / "ComfyUI", stated)
    expected = (root / "custom_nodes", tmp_path / "more" / "custom_nodes", root / "mine")
    assert comfy_folder(root).custom_nodes == expected


@pytest.mark.parametrize("stated", ["", "- a list", "a: [", "a:\n  custom_nodes: 3", "\x00"])
def test_extra_model_paths_that_say_nothing_are_none(stated: str, tmp_path: Path) -> None:
    root = a_comfyui(tmp_path / "ComfyUI", stated)
    assert comfy_folder(root).custom_nodes == (root / "custom_nodes",)


@pytest.mark.parametrize("version", ["pyproject.toml", None])
def test_older_versions_are_stated_elsewhere_or_nowhere(version: str | None, tmp_path: Path) -> None:
    root = a_comfyui(tmp_path)
    (root / "comfyui_version.py").unlink()
    if version is not None:
        (root / version).write_text('[project]\nname = "ComfyUI"\nversion = "0.3.2"\n')
    assert comfy_folder(root).version == ("0.3.2" if version is not None else None)


def test_a_path_that_is_no_comfyui_is_told_what_is_wrong_with_it(tmp_path: Path) -> None:
    root = a_comfyui(tmp_path / "ComfyUI")
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").touch()
    (other / "link").symlink_to(other / "gone")
    for path, words in (
        (tmp_path / "nowhere", f"there is no {tmp_path}/nowhere; give the folder that has ComfyUI's main.py"),
        (other, f"{other} is not ComfyUI's folder; give the folder that has ComfyUI's main.py"),
        (other / "notes.txt", f"{other}/notes.txt is a file; give the folder that has ComfyUI's main.py"),
        (other / "link", f"{other}/link is a link to {other}/gone, which does not exist"),
        (root / "models", f"{root}/models is not ComfyUI's folder; its ComfyUI is {root}"),
    ):
        with pytest.raises(NotComfyUIError) as refused:
            comfy_folder(path)
        assert str(refused.value) == words
