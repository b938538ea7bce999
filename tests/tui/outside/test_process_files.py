"""Tests of what /proc tells of the model files of a process: real processes, and hostile text."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpumodels_tui.outside.facts import KnownBy, OutsideModel
from gpumodels_tui.outside.process_files import has_model_suffix, is_model_file, models_of, root_of, shares_root
from model_files import write_model
from model_readers import OTHER_USER, a_gguf_file, can_become_others, reading, seen_by_other_user


def test_a_mapped_file_is_known_with_its_size_and_is_the_same_file_here(tmp_path: Path) -> None:
    path = a_gguf_file(tmp_path / "Qwen3-8B-Q4_K_M.gguf")
    with reading("mapped", path) as pid:
        (model,) = models_of(pid)
    assert (model.known_by, model.files, model.file_bytes) == (KnownBy.MAPPED, (str(path),), path.stat().st_size)
    assert model.mapped_bytes >= path.stat().st_size
    assert (model.is_here, model.is_deleted) == (True, False)


def test_a_file_that_is_read_is_open_and_one_that_is_written_is_none(tmp_path: Path) -> None:
    path = write_model(tmp_path / "flux.safetensors")
    with reading("open", path) as pid:
        (model,) = models_of(pid)
        assert (model.known_by, model.files, model.mapped_bytes) == (KnownBy.OPEN, (str(path),), 0)
    with reading("written", path) as pid:
        assert models_of(pid) == ()


def test_a_deleted_file_is_said_to_be_gone_mapped_or_open(tmp_path: Path) -> None:
    path = write_model(tmp_path / "gone.safetensors")
    size = path.stat().st_size
    with reading("mapped", path) as mapping, reading("open", path) as opening:
        path.unlink()
        for pid, known_by in ((mapping, KnownBy.MAPPED), (opening, KnownBy.OPEN)):
            (model,) = models_of(pid)
            assert (model.known_by, model.files, model.is_deleted, model.is_here) == (known_by, (str(path),), True, False)
            assert model.file_bytes in ((size, None) if known_by is KnownBy.MAPPED else (size,))


def test_a_file_that_took_the_place_of_a_mapped_one_is_not_taken_for_it(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.safetensors")
    with reading("mapped", path) as pid:
        write_model(tmp_path / "new.safetensors", {"w": ("F32", (1000,))}).replace(path)
        (model,) = models_of(pid)
    assert model.is_deleted
    assert not model.is_here
    assert model.file_bytes != path.stat().st_size


def test_shards_are_one_model_and_the_largest_model_comes_first(tmp_path: Path) -> None:
    shards = [
        write_model(tmp_path / f"Big-{number:05d}-of-00003.gguf", {"w": ("F32", (5000,))}).resolve() for number in (1, 2, 3)
    ]
    lora = write_model(tmp_path / "my-lora.safetensors")
    with reading("mapped", lora, *shards[::-1]) as pid:
        big, small = models_of(pid)
    assert big.files == tuple(map(str, shards))
    assert big.file_bytes == sum(shard.stat().st_size for shard in shards)
    assert small.files == (str(lora),)


def test_files_that_other_programs_use_too_count_from_a_size_on(tmp_path: Path) -> None:
    small, large, other = tmp_path / "small.bin", tmp_path / "large.bin", tmp_path / "large.txt"
    small.write_bytes(bytes(4096))
    for path in (large, other):
        path.write_bytes(bytes(2 * 1024**2))
    with reading("mapped", small, large, other) as pid:
        assert [model.files for model in models_of(pid)] == [(str(large),)]


def test_names_with_line_ends_spaces_and_escapes_are_read_as_they_are(tmp_path: Path) -> None:
    paths = [write_model(tmp_path / name) for name in ("a b\n7f00-7f01 r 0 0:0 1 x.gguf", "\x1b[2J (deleted).safetensors")]
    with reading("mapped", *paths) as pid:
        assert {model.files for model in models_of(pid)} == {(str(path),) for path in paths}


def test_bytes_that_are_no_text_are_shown_as_such(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.gguf"))
    write_model(path)
    with reading("mapped", path) as pid:
        (model,) = models_of(pid)
    assert model.files == (f"{tmp_path}/\\udcff.gguf",)
    assert model.file_bytes == path.stat().st_size
    assert not model.is_here


@pytest.mark.skipif(not can_become_others(), reason="only root starts processes of others")
def test_another_users_files_are_not_seen_and_it_is_said_why(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.safetensors")
    with reading("mapped", path) as pid:
        assert seen_by_other_user(pid) == "[] owned by another user: run as root or that user"
    with reading("mapped", path, uid=OTHER_USER) as pid:
        assert [model.files for model in models_of(pid)] == [(str(path),)], "root sees them"


@pytest.mark.skipif(not can_become_others(), reason="only root changes a process's root")
def test_a_process_with_another_root_has_the_files_that_the_kernel_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_model(tmp_path / "m.safetensors")
    monkeypatch.setenv("NEW_ROOT", str(tmp_path))
    with reading("mapped", path) as pid:
        (model,) = models_of(pid)
        assert not shares_root(pid)
        assert root_of(pid) == ""
    assert (model.files, model.is_here) == ((str(path),), True)


@pytest.mark.parametrize("inode", ["same", "other"])
def test_in_a_container_the_file_is_the_one_below_its_root(tmp_path: Path, inode: str) -> None:
    path = write_model(tmp_path / "7" / "root" / "m" / "a.gguf")
    number = path.stat().st_ino + (inode == "other")
    (model,) = models_of(7, proc_with(tmp_path, b"1000-2000 r--p 0 00:00 %d /m/a.gguf\n" % number))
    assert (model.files, model.is_here) == (("/m/a.gguf",), False)
    assert model.file_bytes == (path.stat().st_size if inode == "same" else None)


def test_a_process_that_has_ended_is_said_to_have(tmp_path: Path) -> None:
    with reading("open", write_model(tmp_path / "m.gguf")) as pid:
        pass
    with pytest.raises(ProcessLookupError):
        models_of(pid)
    assert root_of(pid) is None


def proc_with(tmp_path: Path, maps: bytes) -> str:
    """A /proc of one process, 7, with these mappings and no descriptors."""
    (tmp_path / "7" / "fd").mkdir(parents=True)
    (tmp_path / "7" / "maps").write_bytes(maps)
    return str(tmp_path)


def test_text_that_is_no_mapping_is_passed_over(tmp_path: Path) -> None:
    hostile = (
        b"x" * 70_000 + b".gguf\nnonsense.gguf\n7f-8f r--p 0 0:0 x /a.gguf\n" + b"7000-8000 r--p 0 00:00 9 /real.gguf\n\xff\n"
    )
    (model,) = models_of(7, proc_with(tmp_path, hostile))
    assert model == OutsideModel(KnownBy.MAPPED, ("/real.gguf",), mapped_bytes=0x1000)


def test_no_more_files_and_models_are_kept_than_anybody_reads(tmp_path: Path) -> None:
    lines = b"".join(b"%x000-%x000 r--p 0 00:00 %d /m/%d.gguf\n" % (n, n + 1, n, n) for n in range(1, 5000))
    assert len(models_of(7, proc_with(tmp_path, lines))) == 64


@pytest.mark.parametrize(
    ("path", "is_certain", "may_be"),
    [
        ("/m/a.gguf", True, True),
        ("/m/A.SafeTensors", True, True),
        ("/m/blobs/sha256-" + "0" * 64, True, True),
        ("/m/a.bin", False, True),
        ("/m/a.gguf.txt", False, False),
        ("/m/gguf", False, False),
    ],
)
def test_model_files_are_told_by_their_names(path: str, is_certain: bool, may_be: bool) -> None:
    assert (is_model_file(path), has_model_suffix(path)) == (is_certain, may_be)
