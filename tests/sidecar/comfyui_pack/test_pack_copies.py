"""The node pack among custom nodes: put there, found, and removed where it is ours."""

from __future__ import annotations

import errno
import json
import os
import py_compile
from collections.abc import Callable
from pathlib import Path

import pytest

from gpumodels.comfyui_pack import pack_copies
from gpumodels.comfyui_pack.pack_copies import (
    DISABLED,
    PACK_FILES,
    PACK_NAME,
    RECORD,
    SOURCE,
    PackCopy,
    PackOwner,
    copies_in,
    pack_version,
    put,
    remove,
)
from gpumodels.version import __version__


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_the_pack_is_put_there_whole_found_and_removed_again(tmp_path: Path) -> None:
    target = put(tmp_path / "custom_nodes")
    assert target == tmp_path / "custom_nodes" / PACK_NAME
    assert tree(target) == sorted([*PACK_FILES, RECORD])
    assert all((target / name).read_bytes() == (SOURCE / name).read_bytes() for name in PACK_FILES)
    (copy,) = copies_in(tmp_path / "custom_nodes")
    assert copy == PackCopy(target, pack_version(), True, PackOwner.OURS)
    remove(copy)
    assert tree(tmp_path) == ["custom_nodes"]


def test_what_python_and_macos_leave_in_it_goes_with_it(tmp_path: Path) -> None:
    target = put(tmp_path)
    py_compile.compile(str(target / "__init__.py"))
    (target / ".DS_Store").touch()
    (copy,) = copies_in(tmp_path)
    assert copy.owner is PackOwner.OURS
    remove(copy)
    assert tree(tmp_path) == []


def test_it_replaces_an_older_version_of_ours_whose_files_were_others(tmp_path: Path) -> None:
    target = put(tmp_path)
    (target / "old.py").write_text("x = 1\n")
    record = json.loads((target / RECORD).read_text())
    record["files"]["old.py"] = pack_copies._hash(b"x = 1\n")
    (target / RECORD).write_text(json.dumps(record))
    assert [copy.owner for copy in copies_in(tmp_path)] == [PackOwner.OURS]
    put(tmp_path)
    assert tree(tmp_path) == sorted([PACK_NAME, *(f"{PACK_NAME}/{name}" for name in (*PACK_FILES, RECORD))])


CHANGES: dict[str, Callable[[Path], object]] = {
    "a line": lambda path: (path / "__init__.py").write_text("NODE_CLASS_MAPPINGS = {}\n"),
    "a file more": lambda path: (path / "notes.txt").touch(),
    "a file less": lambda path: (path / "prestartup_script.py").unlink(),
    "its record": lambda path: (path / RECORD).write_text("{"),
    "a record of paths": lambda path: (path / RECORD).write_text('{"files": {"../x": ""}}'),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_that_somebody_changed_is_theirs(change: str, tmp_path: Path) -> None:
    CHANGES[change](put(tmp_path))
    before = tree(tmp_path)
    (copy,) = copies_in(tmp_path)
    assert copy.owner is PackOwner.CHANGED
    with pytest.raises(ValueError, match="was changed since"):
        remove(copy)
    with pytest.raises(ValueError, match="was changed since"):
        put(tmp_path)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(("sign", "owner"), [(".git", PackOwner.GIT), (".tracking", PackOwner.MANAGER)])
def test_a_copy_of_git_or_of_the_manager_is_theirs_whatever_its_folder_is_called(
    sign: str, owner: PackOwner, tmp_path: Path
) -> None:
    target = put(tmp_path).rename(tmp_path / "ComfyUI-gpumodels")
    (target / sign).touch()
    assert [(copy.path, copy.owner) for copy in copies_in(tmp_path)] == [(target, owner)]


def test_a_link_and_a_folder_without_a_record_are_somebody_elses(tmp_path: Path) -> None:
    (tmp_path / "custom_nodes").mkdir()
    (tmp_path / "custom_nodes" / PACK_NAME).symlink_to(SOURCE)
    (copy,) = copies_in(tmp_path / "custom_nodes")
    assert copy.owner is PackOwner.LINK
    copy.path.unlink()
    copy.path.mkdir()
    (copy,) = copies_in(tmp_path / "custom_nodes")
    assert (copy.owner, copy.version) == (PackOwner.OTHER, None)
    for name in PACK_FILES:
        assert (SOURCE / name).exists()


def test_other_packs_are_no_copies(tmp_path: Path) -> None:
    for name, text in (
        ("one", '[project]\nname = "one"\ndependencies = ["gpumodels-sidecar"]\n'),
        ("two", "name = 3"),
        ("three", ""),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pyproject.toml").write_text(text)
    (tmp_path / "four.py").touch()
    assert copies_in(tmp_path) == []


@pytest.mark.parametrize("place", [f"{PACK_NAME}{DISABLED}", f"{DISABLED}/{PACK_NAME}", f"{DISABLED}/{PACK_NAME}@0_1_0"])
def test_a_disabled_copy_is_one_in_every_way_that_the_manager_knows(place: str, tmp_path: Path) -> None:
    (tmp_path / DISABLED).mkdir()
    path = put(tmp_path).rename(tmp_path / place)
    assert copies_in(tmp_path) == [PackCopy(path, pack_version(), False, PackOwner.OURS)]


def test_a_folder_that_cannot_be_written_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path)
    before = tree(tmp_path)

    def is_full(self: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, "write_bytes", is_full)
    with pytest.raises(OSError, match="No space left"):
        put(tmp_path)
    assert tree(tmp_path) == before


def test_its_version_is_that_of_the_distribution_and_its_name_cannot_be_imported() -> None:
    assert pack_version() == __version__
    assert not PACK_NAME.isidentifier()
