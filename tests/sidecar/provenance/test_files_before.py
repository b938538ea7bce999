"""Which files a process may have read before it was observed."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from types import FunctionType

import pytest

from gpumodels.provenance import files_before
from gpumodels.provenance.files_before import FilesBefore


def a_file(path: Path, age: float = 1e9) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * len(path.name))
    os.utime(path, (age, age))
    return str(path)


def kinds(mapped: Iterable[str] = ()) -> list[set[str]]:
    found = FilesBefore(lambda: mapped, lambda: None).by_kind()
    return [{Path(file.path).name for files in groups.values() for file in files} for groups in found]


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and a command line that names nothing."""
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    monkeypatch.setattr(sys, "argv", ["program.py"])
    return tmp_path


def test_what_is_open_or_mapped_comes_before_what_lies_beside_it(directory: Path) -> None:
    path, mapped = a_file(directory / "a" / "open.safetensors"), a_file(directory / "b" / "mapped.gguf")
    for name in ("a/beside.pt", "a/notes.txt", "b/other.ckpt"):
        a_file(directory / name)
    with Path(path).open("rb"):
        assert kinds([mapped]) == [{"open.safetensors", "mapped.gguf"}, {"beside.pt", "other.ckpt"}]


def test_the_command_line_names_files_and_folders(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_file(directory / "one.safetensors")
    a_file(directory / "two.safetensors")
    a_file(directory / "folder" / "three.safetensors")
    arguments = [str(directory / "one.safetensors"), "--weights=../two.safetensors", str(directory / "folder"), "-x", "a\0b/"]
    monkeypatch.setattr(sys, "argv", ["program.py", *arguments])
    assert kinds() == [{"one.safetensors", "two.safetensors", "three.safetensors"}]


def loads_what_its_code_names() -> str:
    return "in-a-function.safetensors"


def test_the_main_module_and_running_functions_name_files(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = directory / "elsewhere"
    for name in ("text", "path", "list", "options"):
        a_file(folder / f"{name}.safetensors")
    a_file(directory / "empty" / "in-a-function.safetensors")
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "TEXT", str(folder / "text.safetensors"), raising=False)
    monkeypatch.setattr(main, "PATH", folder / "path.safetensors", raising=False)
    monkeypatch.setattr(main, "LIST", [str(folder / "list.safetensors"), 1], raising=False)
    monkeypatch.setattr(main, "OPTIONS", argparse.Namespace(model=str(folder / "options.safetensors")), raising=False)
    monkeypatch.setattr(main, "loads", loads_what_its_code_names, raising=False)
    assert type(loads_what_its_code_names) is FunctionType
    named, *_ = kinds()
    assert named == {
        "text.safetensors",
        "path.safetensors",
        "list.safetensors",
        "options.safetensors",
        "in-a-function.safetensors",
    }


def test_a_file_that_was_written_since_the_process_began_may_be_its_own(directory: Path) -> None:
    a_file(directory / "empty" / "old.safetensors")
    (directory / "empty" / "saved.safetensors").write_bytes(b"new")
    assert kinds() == [{"old.safetensors"}]


def test_shards_are_one_checkpoint_and_a_link_to_a_file_is_the_file(directory: Path) -> None:
    for number in (1, 2):
        a_file(directory / "empty" / f"net-0000{number}-of-00002.safetensors")
    path = a_file(directory / "store" / "one.safetensors")
    (directory / "empty" / "zz.safetensors").symlink_to(path)
    with Path(path).open("rb"):
        before = FilesBefore(list, lambda: None)
        assert [sorted(map(len, groups.values())) for groups in before.by_kind()] == [[1], [2]]
        assert len(before.all()) == 2


def test_folders_in_the_working_directory_are_read_too(directory: Path) -> None:
    a_file(directory / "empty" / "here.safetensors")
    a_file(directory / "empty" / "models" / "one.safetensors")
    a_file(directory / "empty" / "models" / "deeper" / "two.safetensors")
    assert kinds() == [{"here.safetensors"}, {"one.safetensors"}]


def test_a_working_directory_that_is_gone_hides_nothing(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["program.py", a_file(directory / "one.safetensors")])
    (directory / "gone").mkdir()
    monkeypatch.chdir(directory / "gone")
    (directory / "gone").rmdir()
    assert kinds() == [{"one.safetensors"}]


def test_of_a_large_folder_only_a_part_is_read(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_before, "MAX_ENTRIES", 10)
    for number in range(30):
        a_file(directory / "empty" / f"{number}.safetensors")
    (found,) = kinds()
    assert len(found) == 10


def test_an_answer_is_kept_for_a_while(directory: Path) -> None:
    before = FilesBefore(list, lambda: None)
    assert before.by_kind() == ()
    a_file(directory / "empty" / "late.safetensors")
    assert before.by_kind() == ()
