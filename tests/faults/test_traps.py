"""Traps in the directory, set by its owner or by another user's races: no link is followed, and nothing makes a reader wait."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from gpumodels_shared.cleaning import clean_dead_files
from gpumodels_shared.identity import this_process
from gpumodels_shared.places import RefusedError, ensure_directory, open_directory, open_file, snapshot_files
from gpumodels_shared.writer import SnapshotWriter
from gpumodels_tui.sources.feed import FeedState, SnapshotFeed
from snapshots import a_model, a_snapshot, an_identity, published
from work import Work, counted

Reached = Callable[[str, str], None]

ME: Final = os.geteuid()
SOMEBODY: Final = 54_321
root_only = pytest.mark.skipif(ME != 0, reason="only root can make devices and be several users")


def a_device(path: Path) -> None:
    os.mknod(path, 0o020600, os.makedev(1, 5))


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def a_sparse_file(path: Path) -> None:
    path.touch()
    os.truncate(path, 10 << 30)


def a_grown_snapshot(path: Path) -> None:
    """A good file that has grown to ten gigabytes, of which its header says nothing."""
    writer = published(path.parent, a_snapshot(a_model("grown")), an_identity(77))
    writer.abandon()
    writer.path.rename(path)
    os.truncate(path, 10 << 30)


def somebody_elses(path: Path) -> None:
    path.write_bytes(b"not ours")
    os.chown(path, SOMEBODY, -1)


TRAPS: Final[dict[str, Callable[[Path, Path], object]]] = {
    "symlink to a good file": lambda path, good: path.symlink_to(good),
    "symlink to /dev/zero": lambda path, _: path.symlink_to("/dev/zero"),
    "symlink to itself": lambda path, _: path.symlink_to(path),
    "hard link": lambda path, good: os.link(good, path),
    "FIFO": lambda path, _: os.mkfifo(path),
    "directory": lambda path, _: path.mkdir(),
    "socket": lambda path, _: a_socket(path),
    "10 GiB of nothing": lambda path, _: a_sparse_file(path),
    "empty file": lambda path, _: path.touch(),
    "device": lambda path, _: a_device(path),
    "somebody else's file": lambda path, _: somebody_elses(path),
}
NEEDS_ROOT: Final = {"device", "somebody else's file"}


STEPS_AT_MOST: Final = 3_000
"""Steps of Python to poll a good file and a trap once; a trap that made a reader wait would do so for ever."""
READ_AT_MOST: Final = 64 * 1024
"""Bytes read of both files: ten gigabytes of zeros aren't read."""


def first_poll(directory: Path) -> tuple[FeedState, Work]:
    """What a viewer that has just been started sees, and the work that this took."""
    with counted() as work:
        feed = SnapshotFeed([directory])
        try:
            return feed.poll(), work
        finally:
            feed.close()


def test_what_is_no_plain_file_is_refused_at_once_and_hides_no_neighbour(shared_memory: Path, reached: Reached) -> None:
    directory, elsewhere = shared_memory / "files", shared_memory / "elsewhere"
    directory.mkdir(mode=0o700)
    elsewhere.mkdir(mode=0o700)
    target = published(elsewhere, a_snapshot(a_model("must not be seen")), an_identity(66))
    neighbour = published(directory, a_snapshot(a_model("good")), an_identity(55))
    steps = tried = 0
    for name, make in TRAPS.items():
        if name in NEEDS_ROOT and ME != 0:
            continue
        trap = directory / "1-1-aaaaaaaa.gpm"
        make(trap, target.path)
        state, work = first_poll(directory)
        assert work.bytes_read < READ_AT_MOST, name
        assert [row.path for row in state.processes] == [neighbour.path], name
        assert [row.path for row in state.unreadable] == [trap], name
        assert state.unreadable[0].reason, name
        with counted() as cleaning:
            clean_dead_files(directory, now_ns=time.time_ns() + 10**18)
        assert cleaning.bytes_read < READ_AT_MOST, name
        steps = max(steps, work.steps, cleaning.steps)
        assert trap.is_symlink() or trap.exists(), f"{name} was removed: it isn't ours to remove"
        trap.rmdir() if name == "directory" else trap.unlink()
        tried += 1
    grown = directory / "1-1-aaaaaaaa.gpm"
    a_grown_snapshot(grown)
    state, work = first_poll(directory)
    assert work.bytes_read < READ_AT_MOST
    assert {row.path for row in state.processes} == {neighbour.path, grown}
    assert target.still_named()
    neighbour.close()
    target.close()
    reached("traps", f"{tried + 1} kinds of file: 0 followed, {max(steps, work.steps)} steps of Python at most for a poll")
    assert max(steps, work.steps) < STEPS_AT_MOST


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o720, 0o1777])
def test_a_directory_that_others_may_write_to_is_never_used(shared_memory: Path, mode: int) -> None:
    directory = shared_memory / "files"
    directory.mkdir()
    directory.chmod(0o700)
    published(directory, a_snapshot(a_model("wan"))).abandon()
    directory.chmod(mode)
    state, _ = first_poll(directory)
    assert state.processes == ()
    assert "can be written by others" in state.unreadable[0].reason
    for use in (lambda: ensure_directory(directory), lambda: SnapshotWriter(directory, this_process(), 1000)):
        with pytest.raises(RefusedError, match="can be written by others"):
            use()
    assert len(os.listdir(directory)) == 1


@contextlib.contextmanager
def a_swapper(place: Path, uid: int) -> Iterator[None]:
    """Another user's process that swaps `place / "files"` for a symlink to `place / "bait"` and back, as fast as it can."""
    child = os.fork()
    if child == 0:
        try:
            if uid != ME:
                os.setuid(uid)
            real, hidden, link = place / "files", place / "hidden", place / "link"
            link.symlink_to(place / "bait")
            while True:
                real.rename(hidden)
                link.rename(real)
                real.rename(link)
                hidden.rename(real)
        finally:
            os._exit(1)
    try:
        yield
    finally:
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "the swapper gave up"
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_swapper_of_directories_gains_nothing(shared_memory: Path, reached: Reached, full: bool) -> None:
    """The directory's parent belongs to the swapper, which is the worst case. The bait looks just like a directory of ours."""
    enough = 20_000 if full else 300
    place = shared_memory / "place"
    for directory in (place, place / "files", place / "bait"):
        directory.mkdir()
        directory.chmod(0o700)
    published(place / "files", a_snapshot(a_model("ours")), an_identity(1)).abandon()
    published(place / "bait", a_snapshot(a_model("bait")), an_identity(2)).abandon()
    bait = set(os.listdir(place / "bait"))
    if ME == 0:
        os.chown(place, SOMEBODY, SOMEBODY)
        shared_memory.chmod(0o755)
    tries = opened = followed = written = steps = 0
    with a_swapper(place, SOMEBODY if ME == 0 else ME):
        while tries < enough or not (opened and written):
            tries += 1
            with contextlib.suppress(OSError):
                descriptor = open_directory(place / "files", {ME})
                names = snapshot_files(descriptor)
                followed += names != [] and set(names) <= bait
                os.close(descriptor)
            for name in bait:
                with contextlib.suppress(OSError):
                    os.close(open_file(place / "files" / name, ME))
                    followed += 1
            with contextlib.suppress(OSError):
                SnapshotWriter(place / "files", this_process(), 1000).abandon()
                written += 1
            state, work = first_poll(place / "files")
            for row in state.processes:
                opened += 1
                followed += row.snapshot is not None and row.snapshot.models != () and row.snapshot.models[0].name == "bait"
            steps = max(steps, work.steps)
            clean_dead_files_of_this(place)
        followed += len(set(os.listdir(place / "bait")) - bait)
    reached("traps", f"a swapper: {tries:,} tries, {opened:,} files read, {written:,} written, {followed} followed")
    assert followed == 0
    assert steps < STEPS_AT_MOST


def clean_dead_files_of_this(place: Path) -> None:
    """Remove what this process wrote there, wherever it is at the moment, so that the directory stays small."""
    for directory in ("files", "hidden"):
        with contextlib.suppress(OSError):
            for name in os.listdir(place / directory):
                if name.startswith(f"{os.getpid()}-"):
                    (place / directory / name).unlink()


@root_only
def test_a_directory_that_somebody_else_made_first_is_refused(shared_memory: Path) -> None:
    directory = shared_memory / "gpumodels-0"
    directory.mkdir(mode=0o700)
    os.chown(directory, SOMEBODY, SOMEBODY)
    with pytest.raises(RefusedError, match=f"belongs to uid {SOMEBODY}, not to us"):
        ensure_directory(directory)
    with pytest.raises(RefusedError, match="not to us"):
        SnapshotWriter(directory, this_process(), 1000)
    assert os.listdir(directory) == []
