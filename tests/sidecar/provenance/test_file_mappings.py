"""Which file an address shows: as long as it does, and no longer."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from gpumodels.provenance.file_mappings import FileMappings
from gpumodels.provenance.files_read import Stamp, stamp_of

BY_THE_KERNEL = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel lists mappings on Linux alone")
STAMP = Stamp(1, 2, 3)


@pytest.fixture
def mappings() -> FileMappings:
    return FileMappings()


def mapped(path: Path, size_bytes: int = 8192) -> torch.UntypedStorage:
    """A storage that shows a new file."""
    path.write_bytes(bytes(size_bytes))
    storage: Any = torch.UntypedStorage.from_file(str(path), False, size_bytes)
    return storage  # type: ignore[no-any-return]


def remembered(mappings: FileMappings, path: Path) -> torch.UntypedStorage:
    storage = mapped(path)
    mappings.add(storage, str(path), STAMP)
    return storage


def test_an_address_anywhere_in_a_mapping_shows_its_file(mappings: FileMappings, tmp_path: Path) -> None:
    storages = {name: remembered(mappings, tmp_path / name) for name in ("a.pt", "b.pt", "c.pt")}
    for name, storage in storages.items():
        start, end = storage.data_ptr(), storage.data_ptr() + storage.nbytes()
        for pointer in (start, start + 1, end - 1, start):
            assert mappings.file_at(pointer) == (str(tmp_path / name), STAMP)
    lowest = min(storage.data_ptr() for storage in storages.values())
    highest = max(storage.data_ptr() + storage.nbytes() for storage in storages.values())
    assert mappings.file_at(lowest - 1) is mappings.file_at(highest) is mappings.file_at(0) is None


def test_a_mapping_that_is_freed_shows_nothing_though_it_was_asked_for_last(mappings: FileMappings, tmp_path: Path) -> None:
    first, second = remembered(mappings, tmp_path / "a.pt"), remembered(mappings, tmp_path / "b.pt")
    pointer = first.data_ptr()
    assert mappings.file_at(pointer) is not None
    del first
    gc.collect()
    assert mappings.file_at(pointer) is None
    assert mappings.file_at(second.data_ptr()) == (str(tmp_path / "b.pt"), STAMP)


def test_what_is_remembered_keeps_no_mapping_alive_and_does_not_pile_up(mappings: FileMappings, tmp_path: Path) -> None:
    for _ in range(50):
        storage = remembered(mappings, tmp_path / "a.pt")
        del storage
    assert len(mappings._made) <= 1


def test_whether_anything_may_be_known_is_said_beforehand(mappings: FileMappings, tmp_path: Path) -> None:
    said = [mappings.may_know]
    assert mappings.file_at(4096) is None
    mappings.allow_kernel_query(lambda _: None)
    said.append(mappings.may_know)
    mappings.forget_kernel_mappings()
    said.append(mappings.may_know)
    storage = remembered(mappings, tmp_path / "a.pt")
    said.append(mappings.may_know)
    mappings.forget_kernel_mappings()
    said.append(mappings.may_know)
    assert said == [False, True, False, True, True]
    assert storage.nbytes() == 8192


@BY_THE_KERNEL
def test_the_kernel_tells_of_model_files_that_were_mapped_before(mappings: FileMappings, tmp_path: Path) -> None:
    named = tmp_path / "a model, by name.safetensors"
    model, other = mapped(named), mapped(tmp_path / "data.npy")
    noted: list[str] = []

    def note(path: str) -> Stamp | None:
        noted.append(path)
        return stamp_of(path)

    mappings.query_kernel(note)
    assert mappings.file_at(model.data_ptr() + 100) == (str(named), stamp_of(str(named)))
    assert mappings.file_at(other.data_ptr()) is None
    assert noted == [path for path in noted if path.endswith(".safetensors")]
    assert noted.count(str(named)) == 1
    mappings.forget_kernel_mappings()
    assert mappings.file_at(model.data_ptr() + 100) is None


@BY_THE_KERNEL
def test_the_kernel_is_asked_once_and_only_where_nothing_else_is_known_and_it_is_allowed(
    mappings: FileMappings, tmp_path: Path
) -> None:
    noted: list[str] = []
    known, unknown = remembered(mappings, tmp_path / "known.pt"), mapped(tmp_path / "unknown.pt")
    mappings.allow_kernel_query(lambda path: noted.append(path))
    assert mappings.file_at(known.data_ptr(), asks_kernel=True) is not None
    assert mappings.file_at(unknown.data_ptr()) is None  # in a thread of the host's
    assert noted == []
    for _ in range(2):
        assert mappings.file_at(unknown.data_ptr(), asks_kernel=True) == (str(tmp_path / "unknown.pt"), None)
        assert mappings.file_at(0, asks_kernel=True) is None
    assert noted.count(str(tmp_path / "unknown.pt")) == 1


@BY_THE_KERNEL
def test_what_was_seen_being_mapped_says_more_than_the_kernel(mappings: FileMappings, tmp_path: Path) -> None:
    link = tmp_path / "the users name.pt"
    storage = mapped(tmp_path / "blob.pt")
    link.symlink_to(tmp_path / "blob.pt")
    mappings.add(storage, str(link), STAMP)
    mappings.query_kernel(lambda _: None)
    assert mappings.file_at(storage.data_ptr(), asks_kernel=True) == (str(link), STAMP)
