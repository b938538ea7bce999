"""Tests of looking: names, real paths, symlinks, and trees with traps in them."""

from __future__ import annotations

import os
from pathlib import Path

from gpumodels_tui.catalogue.tree import Listing, inspect_path, walk
from model_files import titled, write_model


def everything(directory: Path) -> list[Listing]:
    return list(walk(str(directory), lambda path, real: True))


def names(directory: Path) -> list[str]:
    return sorted(sighting.path for listing in everything(directory) for sighting in listing.sightings)


def problem_of(path: Path) -> str | None:
    sighting = inspect_path(str(path))
    assert sighting is not None
    assert sighting.stamp is None
    return sighting.problem


def test_a_walk_finds_model_files_at_any_depth_and_nothing_else(tmp_path: Path) -> None:
    deep = write_model(tmp_path / "loras" / "style" / "x.safetensors")
    upper = write_model(tmp_path / "UPPER.SAFETENSORS")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "x.safetensors.incomplete").write_text("x")
    assert names(tmp_path) == sorted([str(deep), str(upper)])


def test_a_file_is_seen_with_its_real_path_and_size(tmp_path: Path) -> None:
    path = titled(tmp_path / "m.safetensors", "x")
    (listing,) = everything(tmp_path)
    assert listing.sightings == [inspect_path(str(path))]
    (sighting,) = listing.sightings
    assert sighting.stamp is not None
    assert (sighting.real, sighting.stamp.size_bytes) == (str(path), path.stat().st_size)


def test_the_hub_caches_symlinks_lead_to_their_blobs(tmp_path: Path) -> None:
    blob = write_model(tmp_path / "models--org--name" / "blobs" / "0f3a")
    link = tmp_path / "models--org--name" / "snapshots" / "main" / "model.safetensors"
    link.parent.mkdir(parents=True)
    link.symlink_to("../../blobs/0f3a")
    sightings = [sighting for listing in everything(tmp_path) for sighting in listing.sightings]
    assert [(sighting.path, sighting.real) for sighting in sightings] == [(str(link), str(blob))]


def test_symlinked_directories_are_named_not_entered(tmp_path: Path) -> None:
    write_model(tmp_path / "disk" / "a.safetensors")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "loras").symlink_to(tmp_path / "disk")
    (tmp_path / "models" / "again").symlink_to(tmp_path / "models")
    (listing,) = everything(tmp_path / "models")
    assert sorted(listing.links) == [str(tmp_path / "models" / name) for name in ("again", "loras")]
    assert listing.sightings == []


def test_a_tree_walked_through_a_symlink_keeps_its_users_names(tmp_path: Path) -> None:
    real = write_model(tmp_path / "disk" / "sub" / "a.safetensors")
    link = tmp_path / "models"
    link.symlink_to(tmp_path / "disk")
    (sighting,) = (sighting for listing in everything(link) for sighting in listing.sightings)
    assert (sighting.path, sighting.real) == (str(link / "sub" / "a.safetensors"), str(real))


def test_what_is_no_file_says_what_it_is(tmp_path: Path) -> None:
    directory, fifo, dangling, loop = (tmp_path / f"{name}.safetensors" for name in ("dir", "fifo", "dangling", "loop"))
    inside = write_model(directory / "inside.safetensors")
    os.mkfifo(fifo)
    dangling.symlink_to("nowhere")
    loop.symlink_to(loop.name)
    assert problem_of(directory) == "not a regular file (a directory)"
    assert problem_of(fifo) == "not a regular file (a FIFO)"
    assert problem_of(dangling) == "a broken symlink"
    assert problem_of(loop) == "too many levels of symbolic links"
    assert names(tmp_path) == sorted(str(path) for path in (directory, fifo, dangling, loop, inside))


def test_a_name_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert inspect_path(str(tmp_path / "gone.safetensors")) is None
    assert inspect_path(str(tmp_path / "gone" / "m.safetensors")) is None


def test_a_replaced_file_of_the_same_size_and_time_has_another_stamp(tmp_path: Path) -> None:
    path = titled(tmp_path / "m.safetensors", "one")
    before, times = inspect_path(str(path)), path.stat()
    titled(tmp_path / "new", "two")
    os.utime(tmp_path / "new", ns=(times.st_atime_ns, times.st_mtime_ns))
    (tmp_path / "new").replace(path)
    after = inspect_path(str(path))
    assert before is not None
    assert after is not None
    assert before.stamp != after.stamp


def test_a_directory_that_may_not_be_entered_is_left_out(tmp_path: Path) -> None:
    write_model(tmp_path / "a" / "x.safetensors")
    kept = write_model(tmp_path / "b" / "x.safetensors")
    listings = walk(str(tmp_path), lambda path, real: not path.endswith("/a"))
    assert [sighting.path for listing in listings for sighting in listing.sightings] == [str(kept)]


def test_a_directory_that_is_gone_is_an_empty_one(tmp_path: Path) -> None:
    (listing,) = everything(tmp_path / "gone")
    assert (listing.sightings, listing.links, listing.problem) == ([], [], None)
