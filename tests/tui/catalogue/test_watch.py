"""Tests of the catalogue as a whole: real files, real watches; the header worker replaced where it isn't what is tested."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from gpumodels_shared.fingerprint import Match
from gpumodels_tui.catalogue.cache import SETTLED_NS, Cache
from gpumodels_tui.catalogue.facts import CatalogueState
from gpumodels_tui.catalogue.watch import Catalogue
from gpumodels_tui.headers.header_reader import FileRead, NoWorkerError, TimedOutError
from gpumodels_tui.headers.headers import UnreadableError, Wanted
from gpumodels_tui.headers.safetensors_header import read as read_header
from model_files import BROKEN, safetensors_bytes, titled, write_model
from processes import wait_until

WITHIN_SECONDS = 30.0
"""A change that nobody was told of would be found by the next full walk, after five minutes."""
"""The longest that a condition is waited for: a loaded machine is slow; a correct catalogue isn't."""


class InProcessReader:
    """Reads headers here: no worker to wait for. Counts, and can be told to fail."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.failure: Callable[[str], Exception | None] = lambda path: None
        self.gate = threading.Event()
        self.gate.set()

    def read(self, path: str, suffix: str | None, wanted: Sequence[Wanted] = ()) -> FileRead:
        assert self.gate.wait(WITHIN_SECONDS)
        self.paths.append(path)
        failure = self.failure(path)
        if failure is not None:
            raise failure
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise UnreadableError(str(error.strerror)) from error
        return FileRead(read_header(path, content[:64], len(content)))

    def compare(self, wanted: Sequence[Wanted], paths: Sequence[str], suffix: str | None) -> Sequence[Match | None]:
        raise AssertionError("nobody asked for that")

    def close(self) -> None:
        self.gate.set()


class Running:
    """A started catalogue and what it told."""

    def __init__(self, *directories: Path, reader: InProcessReader | None = None, settle_seconds: float = 0.3) -> None:
        self.changed = threading.Condition()
        self.calls = 0
        self.reader = reader or InProcessReader()
        self.catalogue = Catalogue(directories, self._on_change, self.reader, settle_seconds)
        self.catalogue.start()

    def _on_change(self) -> None:
        with self.changed:
            self.calls += 1
            self.changed.notify_all()

    def wait_until(self, holds: Callable[[CatalogueState], bool]) -> CatalogueState:
        """The first state told of which this is true."""
        with self.changed:
            assert self.changed.wait_for(lambda: holds(self.catalogue.state()), WITHIN_SECONDS), self.catalogue.state()
            return self.catalogue.state()

    def wait_for_title(self, path: Path, title: str) -> CatalogueState:
        return self.wait_until(lambda state: title_at(state, path) == title)

    def wait_until_gone(self, path: Path) -> CatalogueState:
        return self.wait_until(lambda state: str(path) not in state.by_path)


@pytest.fixture
def running() -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def start(*directories: Path, reader: InProcessReader | None = None, settle_seconds: float = 0.3) -> Running:
        started.append(Running(*directories, reader=reader, settle_seconds=settle_seconds))
        return started[-1]

    yield start
    for one in started:
        one.catalogue.stop()


def title_at(state: CatalogueState, path: Path) -> str | None:
    facts = state.by_path.get(str(path))
    return None if facts is None else facts.metadata.get("modelspec.title")


Start = Callable[..., Running]


def test_files_that_are_there_at_start_are_read(running: Start, tmp_path: Path) -> None:
    paths = [titled(tmp_path / "models" / f"{name}.safetensors", name) for name in "abc"]
    state = running(tmp_path).wait_until(lambda state: len(state.by_path) == 3 and not state.pending)
    assert [title_at(state, path) for path in paths] == ["a", "b", "c"]
    assert state.warnings == ()


@pytest.mark.slow
def test_added_changed_moved_and_removed_files_show(running: Start, tmp_path: Path) -> None:
    titled(tmp_path / "first.safetensors", "first")
    catalogue = running(tmp_path)
    catalogue.wait_for_title(tmp_path / "first.safetensors", "first")
    path, moved = tmp_path / "new.safetensors", tmp_path / "moved.safetensors"
    titled(path, "new")
    catalogue.wait_for_title(path, "new")
    titled(path, "changed")
    catalogue.wait_for_title(path, "changed")
    path.rename(moved)
    catalogue.wait_for_title(moved, "changed")
    catalogue.wait_until_gone(path)
    moved.unlink()
    catalogue.wait_until_gone(moved)


@pytest.mark.slow
def test_a_directory_that_comes_and_goes_brings_and_takes_its_files(running: Start, tmp_path: Path) -> None:
    models, outside = tmp_path / "models", tmp_path / "outside"
    models.mkdir()
    titled(outside / "deep" / "a.safetensors", "a")
    catalogue = running(models)
    outside.rename(models / "in")
    inside = models / "in" / "deep" / "a.safetensors"
    catalogue.wait_for_title(inside, "a")
    (models / "in").rename(models / "renamed")
    renamed = models / "renamed" / "deep" / "a.safetensors"
    catalogue.wait_for_title(renamed, "a")
    catalogue.wait_until_gone(inside)
    added = titled(models / "renamed" / "deep" / "b.safetensors", "b")
    catalogue.wait_for_title(added, "b")
    shutil.rmtree(models / "renamed" / "deep")
    catalogue.wait_until(lambda state: not state.by_path)


@pytest.mark.slow
def test_a_directory_that_is_moved_away_takes_its_files(running: Start, tmp_path: Path) -> None:
    models = tmp_path / "models"
    away, stays = titled(models / "in" / "deep" / "a.safetensors", "a"), titled(models / "b.safetensors", "b")
    catalogue = running(models)
    catalogue.wait_until(lambda state: len(state.by_path) == 2)
    (models / "in").rename(tmp_path / "out")
    state = catalogue.wait_until_gone(away)
    assert str(stays) in state.by_path


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_one_warning_and_hides_no_other(running: Start, tmp_path: Path, kind: str) -> None:
    content, reason = BROKEN[kind]
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(content)
    good = titled(tmp_path / "good.safetensors", "good")
    catalogue = running(tmp_path, settle_seconds=0)
    state = catalogue.wait_until(lambda state: title_at(state, good) == "good" and bool(state.warnings))
    (warning,) = state.warnings
    assert warning.startswith(f"{broken}: {reason}")


def test_a_warning_goes_when_its_file_is_repaired_or_removed(running: Start, tmp_path: Path) -> None:
    repaired, removed = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    for path in (repaired, removed):
        path.write_bytes(b"garbage garbage garbage")
    catalogue = running(tmp_path)
    catalogue.wait_until(lambda state: len(state.warnings) == 2)
    titled(repaired, "repaired")
    catalogue.wait_until(lambda state: len(state.warnings) == 1 and title_at(state, repaired) == "repaired")
    removed.unlink()
    catalogue.wait_until(lambda state: not state.warnings)


def test_what_is_no_file_is_a_warning_each(running: Start, tmp_path: Path) -> None:
    (tmp_path / "dir.safetensors").mkdir()
    os.mkfifo(tmp_path / "fifo.safetensors")
    (tmp_path / "loop.safetensors").symlink_to("loop.safetensors")
    inside = titled(tmp_path / "dir.safetensors" / "inside.safetensors", "inside")
    state = running(tmp_path).wait_until(lambda state: title_at(state, inside) == "inside" and len(state.warnings) == 3)
    assert [warning.split(": ")[1] for warning in state.warnings] == [
        "not a regular file (a directory)",
        "not a regular file (a FIFO)",
        "too many levels of symbolic links",
    ]


@pytest.mark.slow
def test_a_file_written_slowly_is_never_called_broken(running: Start, tmp_path: Path) -> None:
    warned: list[str] = []
    catalogue = running(tmp_path, settle_seconds=5)
    content, path = safetensors_bytes(metadata={"modelspec.title": "slow"}), tmp_path / "slow.safetensors"
    with path.open("wb", buffering=0) as file:
        for start in range(0, len(content), 40):
            seen = len(catalogue.reader.paths)
            file.write(content[start : start + 40])
            if start < 120:
                catalogue.wait_until(lambda state, seen=seen: len(catalogue.reader.paths) > seen)  # type: ignore[misc]
            warned += catalogue.catalogue.state().warnings
    warned += catalogue.wait_for_title(path, "slow").warnings
    assert warned == []


@pytest.mark.slow
def test_a_file_left_truncated_is_reported_in_the_end(running: Start, tmp_path: Path) -> None:
    catalogue = running(tmp_path)
    (tmp_path / "cut.safetensors").write_bytes(safetensors_bytes()[:30])
    state = catalogue.wait_until(lambda state: bool(state.warnings))
    assert "truncated" in state.warnings[0]
    assert len(catalogue.reader.paths) > 1


def test_hub_symlinks_answer_by_both_paths(running: Start, tmp_path: Path) -> None:
    repository = tmp_path / "models--org--name"
    blob = titled(repository / "blobs" / "0f3a", "hub")
    link = repository / "snapshots" / "main" / "model.safetensors"
    link.parent.mkdir(parents=True)
    link.symlink_to("../../blobs/0f3a")
    catalogue = running(tmp_path)
    state = catalogue.wait_for_title(link, "hub")
    assert state.by_path[str(blob)] is state.by_path[str(link)]
    assert state.by_path[str(blob)].aliases == (str(link),)
    titled(blob, "rewritten")
    catalogue.wait_for_title(link, "rewritten")
    blob.unlink()
    state = catalogue.wait_until_gone(link)
    assert state.warnings == (f"{link}: a broken symlink",)


@pytest.mark.slow
def test_symlinked_directories_are_read_and_watched_and_loops_are_not_walked(running: Start, tmp_path: Path) -> None:
    models, disk = tmp_path / "models", tmp_path / "disk"
    titled(disk / "a.safetensors", "a")
    models.mkdir()
    (models / "loras").symlink_to(disk)
    (models / "loop").symlink_to(models)
    (disk / "back").symlink_to(tmp_path)
    catalogue = running(models)
    catalogue.wait_for_title(models / "loras" / "a.safetensors", "a")
    titled(disk / "b.safetensors", "b")
    state = catalogue.wait_for_title(models / "loras" / "b.safetensors", "b")
    assert title_at(state, disk / "b.safetensors") == "b"
    late = titled(tmp_path / "elsewhere" / "c.safetensors", "c")
    (models / "late").symlink_to(late.parent)
    catalogue.wait_for_title(models / "late" / "c.safetensors", "c")
    (models / "late").unlink()
    catalogue.wait_until_gone(models / "late" / "c.safetensors")


def test_a_directory_given_by_a_symlink_keeps_the_users_names(running: Start, tmp_path: Path) -> None:
    (tmp_path / "disk" / "sub").mkdir(parents=True)
    link = tmp_path / "models"
    link.symlink_to(tmp_path / "disk")
    catalogue = running(link)
    catalogue.catalogue.read_now([], WITHIN_SECONDS)
    real = titled(tmp_path / "disk" / "sub" / "a.safetensors", "a")
    state = catalogue.wait_for_title(link / "sub" / "a.safetensors", "a")
    assert state.by_path[str(real)].aliases == (str(link / "sub" / "a.safetensors"),)
    real.unlink()
    catalogue.wait_until(lambda state: not state.by_path)


def test_a_directory_given_twice_is_no_other(running: Start, tmp_path: Path) -> None:
    (tmp_path / "same").symlink_to(tmp_path / "m")
    first = titled(tmp_path / "m" / "sub" / "a.safetensors", "a")
    catalogue = running(tmp_path / "m", tmp_path / "m" / "sub", tmp_path / "same")
    state = catalogue.wait_for_title(first, "a")
    assert (state.by_path[str(first)].aliases, state.warnings) == ((), ())
    second = titled(tmp_path / "m" / "sub" / "b.safetensors", "b")
    catalogue.wait_for_title(second, "b")


@pytest.mark.slow
def test_a_change_behind_a_symlink_out_of_the_tree_shows(running: Start, tmp_path: Path) -> None:
    outside, link = titled(tmp_path / "outside" / "x.safetensors", "x"), tmp_path / "models" / "x.safetensors"
    link.parent.mkdir()
    link.symlink_to(outside)
    catalogue = running(link.parent)
    catalogue.wait_for_title(link, "x")
    titled(outside, "other")
    catalogue.wait_for_title(link, "other")


@pytest.mark.slow
def test_followed_files_are_read_wherever_they_are_and_watched(running: Start, tmp_path: Path) -> None:
    named, blob = titled(tmp_path / "a" / "m.safetensors", "one"), titled(tmp_path / "b" / "0f3a", "blob")
    other = tmp_path / "c" / "pytorch_model.bin"
    missing = tmp_path / "d" / "later.safetensors"
    catalogue = running()
    catalogue.catalogue.follow([str(named), str(missing), "relative.safetensors", "", "/nul\0.safetensors", str(other)])
    catalogue.wait_for_title(named, "one")
    catalogue.catalogue.follow([str(named), str(missing)])
    assert catalogue.reader.paths == [str(named)]
    titled(named, "two")
    catalogue.wait_for_title(named, "two")
    titled(missing, "later")
    catalogue.wait_for_title(missing, "later")
    named.unlink()
    assert catalogue.wait_until_gone(named).warnings == ()
    assert str(blob) not in catalogue.catalogue.state().by_path


@pytest.mark.slow
def test_what_lies_beside_a_followed_file_is_read_and_watched_and_nothing_below(running: Start, tmp_path: Path) -> None:
    named = titled(tmp_path / "m" / "model.safetensors", "named")
    beside, below = titled(tmp_path / "m" / "beside.safetensors", "beside"), titled(tmp_path / "m" / "sub" / "x.safetensors", "x")
    (tmp_path / "m" / "link").symlink_to(below.parent)
    catalogue = running()
    catalogue.catalogue.follow([str(named)])
    catalogue.wait_for_title(beside, "beside")
    late = titled(tmp_path / "m" / "late.safetensors", "late")
    catalogue.wait_for_title(late, "late")
    (tmp_path / "m" / "new").mkdir()
    titled(tmp_path / "m" / "new" / "y.safetensors", "y")
    late.unlink()
    state = catalogue.wait_until_gone(late)
    assert set(state.by_path) == {str(named), str(beside)}


@pytest.mark.slow
def test_a_directory_that_is_added_later_is_read_with_all_below_it(running: Start, tmp_path: Path) -> None:
    named, deep = titled(tmp_path / "m" / "a.safetensors", "a"), titled(tmp_path / "m" / "sub" / "b.safetensors", "b")
    catalogue = running()
    catalogue.catalogue.follow([str(named)])
    catalogue.wait_for_title(named, "a")
    catalogue.catalogue.add([tmp_path / "m"])
    catalogue.catalogue.add([tmp_path / "m"])
    catalogue.wait_for_title(deep, "b")
    late = titled(tmp_path / "m" / "sub" / "late.safetensors", "late")
    state = catalogue.wait_for_title(late, "late")
    assert state.by_path[str(named)].aliases == ()


def test_a_file_in_tmp_has_no_neighbours_worth_watching(running: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpumodels_tui.catalogue.file_finder.NEVER_WATCHED", {str(tmp_path)})
    named = titled(tmp_path / "a.safetensors", "a")
    titled(tmp_path / "b.safetensors", "b")
    catalogue = running()
    catalogue.catalogue.read_now([str(named)], WITHIN_SECONDS)
    assert set(catalogue.catalogue.state().by_path) == {str(named)}


def test_long_metadata_are_whole_for_files_that_models_came_from(running: Start, tmp_path: Path) -> None:
    long = {"modelspec.title": "a", "ss_tag_frequency": "tag " * 1_000}
    path, other = write_model(tmp_path / "a.safetensors", metadata=long), write_model(tmp_path / "b.safetensors", metadata=long)
    catalogue = running(tmp_path)
    state = catalogue.wait_until(lambda state: len(state.by_path) == 2)
    assert "ss_tag_frequency" not in state.by_path[str(path)].metadata
    catalogue.catalogue.follow([str(path)])
    state = catalogue.wait_until(lambda state: "ss_tag_frequency" in state.by_path[str(path)].metadata)
    assert state.by_path[str(path)].metadata == long
    assert state.by_path[str(other)].metadata == {"modelspec.title": "a"}


def test_configs_and_indexes_are_read_with_the_files_beside_them(tmp_path: Path) -> None:
    write_model(tmp_path / "model-00001-of-00001.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"w": "model-00001-of-00001.safetensors"}}')
    (tmp_path / "old.ckpt").write_bytes(b"not opened")
    catalogue = Catalogue([tmp_path])
    by_path = catalogue.read_now([], WITHIN_SECONDS).by_path
    assert by_path[str(tmp_path / "config.json")].metadata == {"model_type": "bert"}
    assert by_path[str(tmp_path / "model.safetensors.index.json")].shards == ("model-00001-of-00001.safetensors",)
    assert by_path[str(tmp_path / "old.ckpt")].format == "pickle"


def test_one_look_at_a_file_reads_what_tells_of_it_and_no_other_model(tmp_path: Path) -> None:
    named = titled(tmp_path / "model.safetensors", "named")
    beside = titled(tmp_path / "other.safetensors", "other")
    (tmp_path / "config.json").write_text("{}")
    by_path = Catalogue(reader=InProcessReader()).read_now([str(named)], WITHIN_SECONDS).by_path
    assert str(named) in by_path
    assert str(beside) not in by_path


def test_how_many_files_are_read_of_how_many_is_known(tmp_path: Path) -> None:
    for number in range(5):
        write_model(tmp_path / f"{number}.safetensors")
    reader = InProcessReader()
    reader.gate.clear()
    state = Catalogue([tmp_path], reader=reader).read_now([], 0.2)
    assert (state.pending, state.seen) == (5, 5)


def test_what_a_cache_recalls_is_not_read_and_its_problem_is_a_warning(tmp_path: Path) -> None:
    path = titled(tmp_path / "m" / "a.safetensors", "a")
    wait_until(lambda: time.time_ns() - path.stat().st_ctime_ns > 2 * SETTLED_NS)
    for reads in (1, 0):
        reader = InProcessReader()
        state = Catalogue([tmp_path / "m"], reader=reader, cache=Cache(tmp_path / "c.sqlite")).read_now([], WITHIN_SECONDS)
        assert (title_at(state, path), len(reader.paths), state.warnings) == ("a", reads, ())
    (tmp_path / "c.sqlite").write_bytes(b"damaged" * 1_000)
    catalogue = Catalogue([tmp_path / "m"], reader=InProcessReader(), cache=Cache(tmp_path / "c.sqlite"))
    catalogue.start()
    wait_until(lambda: bool(catalogue.state().warnings) and title_at(catalogue.state(), path) is not None)
    (warning,) = catalogue.state().warnings
    assert "damaged" in warning
    catalogue.stop()


@pytest.mark.slow
def test_a_directory_that_is_not_there_yet_is_a_warning_until_it_is(running: Start, tmp_path: Path) -> None:
    models = tmp_path / "mnt" / "models"
    catalogue = running(models)
    state = catalogue.wait_until(lambda state: bool(state.warnings))
    assert state.warnings == (f"{models}: no such file or directory",)
    path = titled(models / "a.safetensors", "a")
    assert catalogue.wait_for_title(path, "a").warnings == ()


@pytest.mark.slow
def test_a_directory_that_is_replaced_is_watched_anew(running: Start, tmp_path: Path) -> None:
    models = tmp_path / "models"
    old = titled(models / "old.safetensors", "old")
    catalogue = running(models)
    catalogue.wait_for_title(old, "old")
    models.rename(tmp_path / "away")
    first = titled(models / "first.safetensors", "first")
    catalogue.wait_for_title(first, "first")
    catalogue.wait_until_gone(old)
    second = titled(models / "second.safetensors", "second")
    catalogue.wait_for_title(second, "second")


def test_a_file_given_for_a_directory_is_read(running: Start, tmp_path: Path) -> None:
    path = titled(tmp_path / "m.safetensors", "m")
    assert running(path).wait_for_title(path, "m").warnings == ()


def test_hundreds_of_files_are_told_in_few_states(running: Start, tmp_path: Path) -> None:
    for number in range(300):
        write_model(tmp_path / f"{number}.safetensors")
    began = time.monotonic()
    catalogue = running(tmp_path)
    catalogue.wait_until(lambda state: len(state.by_path) == 300 and not state.pending)
    assert catalogue.calls <= 3 + 4 * (time.monotonic() - began)


def test_nothing_is_told_while_nothing_changes(running: Start, tmp_path: Path) -> None:
    path = titled(tmp_path / "a.safetensors", "a")
    catalogue = running(tmp_path)
    catalogue.catalogue.follow([str(path)])
    state = catalogue.wait_for_title(path, "a")
    calls = catalogue.calls
    path.read_bytes()
    (tmp_path / "notes.txt").write_text("no model")
    path.with_name("b.safetensors").write_bytes(path.read_bytes())
    after = catalogue.wait_until(lambda state: len(state.by_path) == 2)
    assert catalogue.calls - calls <= 3
    assert after.by_path[str(path)] is state.by_path[str(path)]


def test_files_of_a_disk_that_does_not_answer_are_not_waited_for_one_by_one(running: Start, tmp_path: Path) -> None:
    for number in range(20):
        write_model(tmp_path / f"{number}.safetensors")
    reader = InProcessReader()
    reader.failure = lambda path: TimedOutError("no answer within 5 s")
    state = running(tmp_path, reader=reader).wait_until(lambda state: len(state.warnings) == 20)
    assert len(reader.paths) == 2
    assert sum(warning.endswith("its disk does not answer") for warning in state.warnings) == 18


def test_without_a_worker_there_is_one_warning_for_all_files(running: Start, tmp_path: Path) -> None:
    for number in range(5):
        write_model(tmp_path / f"{number}.safetensors")
    reader = InProcessReader()
    reader.failure = lambda path: NoWorkerError("model files can't be read: no numpy")
    state = running(tmp_path, reader=reader).wait_until(lambda state: bool(state.warnings))
    assert state.warnings == ("model files can't be read: no numpy",)
    assert len(reader.paths) == 1


def test_reading_once_reads_the_named_files_and_the_directories(tmp_path: Path) -> None:
    outside, inside = titled(tmp_path / "o" / "o.safetensors", "o"), titled(tmp_path / "m" / "i.safetensors", "i")
    (tmp_path / "m" / "cut.safetensors").write_bytes(b"\x10")
    reader = InProcessReader()
    state = Catalogue([tmp_path / "m"], reader=reader).read_now([str(outside)], WITHIN_SECONDS)
    assert (title_at(state, outside), title_at(state, inside)) == ("o", "i")
    assert [warning.split(": ")[1] for warning in state.warnings] == ["too short to be a safetensors file (1 bytes)"]
    assert reader.paths[0] == str(outside)
    assert state.pending == 0


def test_reading_once_ends_at_its_deadline(tmp_path: Path) -> None:
    path = titled(tmp_path / "a.safetensors", "a")
    reader = InProcessReader()
    reader.gate.clear()
    began = time.monotonic()
    state = Catalogue([tmp_path], reader=reader).read_now([str(path)], 0.2)
    assert time.monotonic() - began >= 0.2
    assert (state.by_path, state.pending) == ({}, 1)  # the reader waits until it is closed: the end was not its own


def test_reading_once_in_a_running_catalogue_leaves_it_running(running: Start, tmp_path: Path) -> None:
    path = titled(tmp_path / "elsewhere" / "a.safetensors", "a")
    models = tmp_path / "models"
    models.mkdir()
    catalogue = running(models)
    assert title_at(catalogue.catalogue.read_now([str(path)], WITHIN_SECONDS), path) == "a"
    later = titled(models / "b.safetensors", "b")
    catalogue.wait_for_title(later, "b")


def test_a_stopped_catalogue_tells_nothing_more_and_leaves_no_thread(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    catalogue = Running(tmp_path)
    titled(tmp_path / "a.safetensors", "a")
    catalogue.wait_for_title(tmp_path / "a.safetensors", "a")
    catalogue.catalogue.stop()
    calls = catalogue.calls
    titled(tmp_path / "b.safetensors", "b")
    assert catalogue.calls == calls
    assert set(threading.enumerate()) <= before


@pytest.mark.slow
def test_the_viewers_process_loads_neither_numpy_nor_safetensors_nor_torch(tmp_path: Path) -> None:
    path = titled(tmp_path / "a.safetensors", "through the worker")
    script = (
        "import sys\n"
        "from gpumodels_tui.catalogue.watch import Catalogue\n"
        "state = Catalogue([sys.argv[1]]).read_now([], 20)\n"
        "facts = state.by_path[sys.argv[2]]\n"
        "print(facts.metadata['modelspec.title'], facts.tensors)\n"
        "print(sorted({'numpy', 'safetensors', 'torch'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", script, str(tmp_path), str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("through the worker 1\n[]\n", "")
