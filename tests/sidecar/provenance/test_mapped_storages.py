"""Names of files are found from what callers have in their variables."""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

import pytest

from gpumodels.provenance.mapped_storages import name_of_open, names_held_by, path_of_bytes


class Telling(io.RawIOBase):
    """A file class of the host's whose `name` is a property, which runs code."""

    asked = 0

    @property
    def name(self) -> str:
        Telling.asked += 1
        return "/etc/hostname"

    def readable(self) -> bool:
        return True


def test_a_name_is_had_of_pythons_own_files(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"12345678")
    with path.open("rb") as buffered, path.open("rb", buffering=0) as plain, path.open("r+b") as both:
        assert {name_of_open(one) for one in (buffered, plain, both)} == {str(path)}


def test_code_of_the_hosts_behind_a_buffer_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"12345678")
    buffered, detached = io.BufferedReader(Telling()), path.open("rb")
    raw = detached.detach()
    for file in (buffered, Telling(), detached, io.BytesIO(b"x"), "a.txt", 7):
        assert name_of_open(file) is None
    assert path_of_bytes(b"87654321", sys._getframe()) is None
    assert Telling.asked == 0
    raw.close()


class Opener(io.RawIOBase):
    """Holds open files, as fsspec's `LocalFileOpener` holds one, with which Lightning reads checkpoints; asked, it would tell."""

    def __init__(self, *files: object) -> None:
        self.mode = "rb"
        for number, file in enumerate(files):
            setattr(self, f"f{number}", file)

    def readable(self) -> bool:
        return True

    def __getattr__(self, name: str) -> object:
        raise AssertionError(name)


class Slotted:
    """Holds a file in a slot, and itself."""

    __slots__ = ("file", "me")

    def __init__(self, file: object) -> None:
        self.file, self.me = file, self


def test_names_are_had_of_the_files_that_an_object_holds(tmp_path: Path) -> None:
    path, other = tmp_path / "a.pt", tmp_path / "b.pt"
    path.write_bytes(b"12345678")
    other.write_bytes(b"12345678")
    with path.open("rb") as file, other.open("rb", buffering=0) as second:
        for holder in (file, Opener(file), Slotted(file), Opener(Slotted(file)), io.BufferedReader(Opener(file))):
            assert names_held_by(holder) == [str(path)]
        assert names_held_by(Opener(file, second)) == [str(path), str(other)]
    with tempfile.NamedTemporaryFile(dir=tmp_path) as temporary:
        assert names_held_by(temporary) == [temporary.name]
    detached = path.open("rb")
    detached.detach().close()
    for without in (io.BytesIO(b"x"), Opener("a.txt", 7), Telling(), detached):
        assert names_held_by(without) == []


def test_of_an_object_that_holds_much_a_bounded_part_is_searched(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(b"12345678")
    with path.open("rb") as file:
        assert names_held_by(Opener(*(Opener() for _ in range(250)), file)) == []


@pytest.mark.parametrize("how", ["path", "text", "file"])
def test_bytes_are_known_by_a_name_in_the_callers_variables(tmp_path: Path, how: str) -> None:
    (tmp_path / "a.safetensors").write_bytes(bytes(range(256)) * 100)
    (tmp_path / "b.safetensors").write_bytes(bytes(25_600))

    def called(name: object) -> str | None:
        assert name is not None
        return path_of_bytes(bytes(range(256)) * 100, sys._getframe())

    def found(path: Path) -> str | None:
        if how == "file":
            with path.open("rb") as file:
                return called(file)
        return called(path if how == "path" else str(path))

    assert found(tmp_path / "a.safetensors") == str(tmp_path / "a.safetensors")
    assert path_of_bytes(bytes(range(256)) * 100, None) is None
