"""A file is told from others by what was loaded, without asking what it was loaded through."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
import torch

from gpumodels.provenance import torch_archives
from gpumodels.provenance.torch_archives import LoadedTensor, file_with

Tensors = dict[str, torch.Tensor]


def some(seed: int) -> Tensors:
    chosen = torch.Generator().manual_seed(seed)
    return {name: torch.randn(64, 64, generator=chosen) for name in "abc"} | {"zeros": torch.zeros(32, 64)}


def loaded(tensors: Tensors, *, sampled: bool = True) -> list[LoadedTensor]:
    values = {name: tensor.numpy().tobytes()[:64] if sampled else b"" for name, tensor in tensors.items()}
    return [LoadedTensor(tensor.untyped_storage().nbytes(), 0, values[name]) for name, tensor in tensors.items()]


def saved(path: Path, tensors: Tensors, *, legacy: bool = False) -> str:
    torch.save(tensors, path, _use_new_zipfile_serialization=not legacy)
    return str(path)


def test_the_file_with_the_same_values_is_the_one(tmp_path: Path) -> None:
    one, other = saved(tmp_path / "one.pt", some(1)), saved(tmp_path / "other.pt", some(2))
    assert file_with(loaded(some(1)), [], [other, one]) == one
    assert file_with(loaded(some(1)), [other, one], []) == one
    assert file_with(loaded(some(3)), [], [other, one]) is None


def test_a_part_of_a_storage_is_compared_where_it_begins(tmp_path: Path) -> None:
    whole = torch.randn(64, 64)
    path = saved(tmp_path / "part.pt", {"part": whole[7:]})
    values = whole[7:].numpy().tobytes()[:64]
    assert file_with([LoadedTensor(64 * 64 * 4, 7 * 64 * 4, values)], [], [path]) == path
    assert file_with([LoadedTensor(64 * 64 * 4, 6 * 64 * 4, values)], [], [path]) is None


def test_values_that_many_files_have_are_no_evidence(tmp_path: Path) -> None:
    zeros = {"a": torch.zeros(64, 64), "b": torch.ones(64, 64)}
    path = saved(tmp_path / "zeros.pt", zeros)
    assert file_with(loaded(zeros), [], [path]) is None
    assert file_with(loaded(zeros), [path], []) == path, "the object holds it open"


def test_a_file_that_is_held_open_is_the_one_where_values_are_on_a_device(tmp_path: Path) -> None:
    one, other = saved(tmp_path / "one.pt", some(1)), saved(tmp_path / "other.pt", {"a": torch.zeros(128, 128)})
    assert file_with(loaded(some(1), sampled=False), [other, one], []) == one
    assert file_with(loaded(some(1), sampled=False), [], [one]) is None


def test_files_of_the_same_values_are_neither(tmp_path: Path) -> None:
    paths = [saved(tmp_path / f"{name}.pt", some(1)) for name in ("one", "copy")]
    assert file_with(loaded(some(1)), [], paths) is None
    (tmp_path / "link.pt").symlink_to(paths[0])
    assert file_with(loaded(some(1)), [], [str(tmp_path / "link.pt"), paths[0]]) == str(tmp_path / "link.pt"), "one file"


def test_a_file_of_old_torchs_is_the_one_only_if_it_is_held_open(tmp_path: Path) -> None:
    path = saved(tmp_path / "old.pt", some(1), legacy=True)
    assert file_with(loaded(some(1)), [path], []) == path
    assert file_with(loaded(some(1)), [], [path]) is None
    assert file_with(loaded({"large": torch.zeros(512, 512)}), [path], []) is None


def test_what_is_no_archive_is_not_the_one(tmp_path: Path) -> None:
    whole = Path(saved(tmp_path / "one.pt", some(1))).read_bytes()
    contents = {
        "torn.pt": whole[:-1000],
        "head.pt": whole[:60_000] + bytes(10_000),
        "text.txt": b"x" * 100_000,
        "empty": b"",
        "end.zip": b"PK" + bytes(60_000) + b"PK\5\6" + bytes(4) + b"\xff" * 12 + bytes(2),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    os.mkfifo(tmp_path / "fifo")
    names = [str(tmp_path / name) for name in (*contents, "fifo", "gone", ".")]
    assert file_with(loaded(some(1)), names, [*names, "a\0b"]) is None
    with zipfile.ZipFile(tmp_path / "packed.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, tensor in some(1).items():
            archive.writestr(f"archive/data/{name}", tensor.numpy().tobytes())
    assert file_with(loaded(some(1)), [str(tmp_path / "packed.zip")], []) is None


def test_an_archive_of_more_than_4_gib_is_read_by_its_longer_fields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    path = tmp_path / "large.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for name, tensor in some(1).items():
            archive.writestr(f"archive/data/{name}", tensor.numpy().tobytes())
    content = path.read_bytes()
    assert b"PK\6\6" in content
    assert b"\xff\xff\xff\xff" in content
    assert file_with(loaded(some(1)), [], [str(path)]) == str(path)


def test_of_an_archive_with_too_many_records_none_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "one.pt", some(1))
    monkeypatch.setattr(torch_archives, "MAX_RECORDS", 3)
    assert file_with(loaded(some(1)), [path], []) is None
