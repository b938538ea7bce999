"""Names of files are found from what callers have in their variables."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from gpumodels.provenance.mapped_storages import name_of_open, path_of_bytes


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
