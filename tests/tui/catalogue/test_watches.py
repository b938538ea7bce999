"""Tests of watching directories, and of what is done where the kernel won't."""

from __future__ import annotations

import errno
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from watchdog.observers import Observer

from gpumodels_tui.catalogue import watches
from gpumodels_tui.catalogue.watches import Change, Watches, remote_file_system
from lost_events import lose_events
from model_files import write_model

if TYPE_CHECKING:
    from watchdog.observers.api import BaseObserver

WITHIN_SECONDS = 30.0


class Heard:
    """Changes as they come."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.changes: set[Change] = set()

    def __call__(self, change: Change) -> None:
        with self.changed:
            self.changes.add(change)
            self.changed.notify_all()

    def wait_for(self, path: Path, is_directory: bool = False) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: Change(str(path), is_directory) in self.changes, WITHIN_SECONDS), self.changes


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def watched(heard: Heard) -> Iterator[Watches]:
    watched = Watches(heard, poll_seconds=0.05)
    yield watched
    watched.stop()


def observer_failing(when: Callable[[str], bool], number: int) -> Callable[[], BaseObserver]:
    """Observers that can watch no directory of which `when` is true."""

    def make() -> BaseObserver:
        observer = Observer()
        schedule = observer.schedule

        def refuse(handler: Any, path: str, **options: Any) -> Any:
            if when(path):
                raise OSError(number, os.strerror(number))
            return schedule(handler, path, **options)

        observer.schedule = refuse  # type: ignore[method-assign, assignment]
        return observer

    return make


def test_a_watched_directory_tells_of_files_and_directories_below_it(watched: Watches, heard: Heard, tmp_path: Path) -> None:
    assert watched.watch(str(tmp_path)) is None
    (tmp_path / "sub").mkdir()
    heard.wait_for(tmp_path / "sub", is_directory=True)
    heard.wait_for(write_model(tmp_path / "sub" / "a.safetensors"))
    (tmp_path / "sub" / "a.safetensors").rename(tmp_path / "b.safetensors")
    heard.wait_for(tmp_path / "b.safetensors")


def test_a_directory_no_longer_watched_is_silent(watched: Watches, heard: Heard, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        watched.watch(str(tmp_path / name))
    watched.unwatch(str(tmp_path / "a"))
    watched.unwatch(str(tmp_path / "never"))
    write_model(tmp_path / "a" / "x.safetensors")
    heard.wait_for(write_model(tmp_path / "b" / "x.safetensors"))
    assert not [change for change in heard.changes if "/a/" in change.path]


def test_where_watches_have_run_out_it_is_polled_and_said(
    watched: Watches, heard: Heard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watches, "Observer", observer_failing(lambda path: True, errno.ENOSPC))
    notice = watched.watch(str(tmp_path))
    assert notice == "no inotify watches left (fs.inotify.max_user_watches); polled every 0.05 s instead"
    heard.wait_for(write_model(tmp_path / "sub" / "a.safetensors"))


def test_watches_that_run_out_deep_in_the_tree_are_noticed(
    watched: Watches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watches, "Observer", observer_failing(lambda path: path != str(tmp_path), errno.ENOSPC))
    assert "no inotify watches left" in (watched.watch(str(tmp_path)) or "")


def test_where_there_is_no_inotify_instance_it_is_polled(
    watched: Watches, heard: Heard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> BaseObserver:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(watches, "Observer", refuse)
    assert "no inotify instances left" in (watched.watch(str(tmp_path)) or "")
    heard.wait_for(write_model(tmp_path / "a.safetensors"))


def test_a_file_system_that_reports_nothing_is_polled(
    watched: Watches, heard: Heard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watches, "remote_file_system", lambda directory: "nfs4")
    assert watched.watch(str(tmp_path)) == "on nfs4, which doesn't report changes; polled every 0.05 s instead"
    for number in range(3):
        (tmp_path / f"loop{number}").symlink_to(tmp_path)
    heard.wait_for(write_model(tmp_path / "a.safetensors"))


def test_a_directory_that_is_not_there_is_an_error(watched: Watches, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        watched.watch(str(tmp_path / "gone"))


def test_a_local_directory_is_not_taken_for_a_remote_one(tmp_path: Path) -> None:
    assert remote_file_system(str(tmp_path / "gone")) is None
    assert remote_file_system("/proc") is None


def test_events_that_the_kernel_dropped_are_told_of_without_a_word_on_stderr(
    heard: Heard, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    losses: list[str] = []
    first, second = Watches(heard, lambda: losses.append("first")), Watches(heard, lambda: losses.append("second"))
    first.watch(str(tmp_path))
    lose_events()
    assert set(losses) == {"first", "second"}
    losses.clear()
    second.stop()
    lose_events()
    assert set(losses) == {"first"}
    first.stop()
    assert capfd.readouterr().err == ""


def test_what_watchdog_logs_of_polling_is_no_loss(heard: Heard) -> None:
    losses: list[int] = []
    watches = Watches(heard, lambda: losses.append(1))
    logging.getLogger("watchdog.observers.polling").warning("Cannot take a snapshot")
    assert losses == []
    watches.stop()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="of the kernel's own queue")
def test_a_queue_that_really_overflowed_is_told_of(heard: Heard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inotify = pytest.importorskip("watchdog.observers.inotify_c")
    reads, lost = threading.Event(), threading.Event()
    read_events = inotify.InotifyFD.read_events

    def read_when_allowed(self: Any) -> Any:
        reads.wait(WITHIN_SECONDS)
        return read_events(self)

    watches = Watches(heard, lost.set)
    watches.watch(str(tmp_path))
    monkeypatch.setattr(inotify.InotifyFD, "read_events", read_when_allowed)
    (tmp_path / "first").touch()  # the reading thread returns from its present call
    room = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    for number in range(room // 2 + 1):
        os.close(os.open(tmp_path / f"{number % 7}", os.O_CREAT | os.O_WRONLY))
        (tmp_path / f"{number % 7}").unlink()
    reads.set()
    assert lost.wait(WITHIN_SECONDS)
    watches.stop()


def emitters() -> int:
    """How many threads watchdog has for watches."""
    return sum("Emitter" in type(thread).__name__ for thread in threading.enumerate())


def test_folders_of_one_parent_share_a_watch_and_report_what_changes_in_them(
    watched: Watches, heard: Heard, tmp_path: Path
) -> None:
    folders = [tmp_path / f"folder-{number}" for number in range(12)]
    for folder in folders:
        (folder / "below").mkdir(parents=True)
    before = emitters()
    for folder in folders:
        assert watched.watch(str(folder)) is None
    assert emitters() <= before + 1
    write_model(folders[3] / "below" / "wan.safetensors")
    heard.wait_for(folders[3] / "below" / "wan.safetensors")
    (folders[5] / "new").mkdir()
    write_model(folders[5] / "new" / "vae.safetensors")
    heard.wait_for(folders[5] / "new" / "vae.safetensors")


def test_what_changes_beside_folders_that_share_a_watch_is_not_reported(watched: Watches, heard: Heard, tmp_path: Path) -> None:
    folders = [tmp_path / f"folder-{number}" for number in range(4)]
    for folder in folders:
        folder.mkdir()
    for folder in folders:
        watched.watch(str(folder))
    write_model(tmp_path / "beside.safetensors")
    (tmp_path / "other").mkdir()
    write_model(tmp_path / "other" / "flux.safetensors")
    watched.unwatch(str(folders[0]))
    write_model(folders[0] / "gone.safetensors")
    write_model(folders[1] / "last.safetensors")
    heard.wait_for(folders[1] / "last.safetensors")
    assert {Path(change.path).parent for change in heard.changes} == {folders[1]}


def test_a_parent_with_other_folders_is_not_watched_for_a_few_of_them(watched: Watches, heard: Heard, tmp_path: Path) -> None:
    (tmp_path / "a large data set").mkdir()
    folders = [tmp_path / f"folder-{number}" for number in range(4)]
    before = emitters()
    for folder in folders:
        folder.mkdir()
        watched.watch(str(folder))
    assert emitters() == before + len(folders)
    for folder in folders:
        watched.unwatch(str(folder))
