"""Finds the sidecars' snapshot files and turns each into a row. Draws nothing."""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from operator import is_
from pathlib import Path
from typing import Final

from gpumodels_shared.container_directories import container_directories
from gpumodels_shared.liveness import Liveness
from gpumodels_shared.places import (
    default_directory,
    open_directory,
    open_file,
    other_users_directories,
    snapshot_files,
)
from gpumodels_shared.reader import is_locked
from gpumodels_shared.records import Record, field
from gpumodels_shared.schema import Snapshot
from gpumodels_tui.sources.tailing import TailedFile

MAX_FILES: Final = 256
"""Files read per directory; each takes a descriptor. Sidecars keep the files of at most 64 dead processes."""

LIST_DIRECTORIES_SECONDS: Final = 1.0
LIST_CONTAINERS_SECONDS: Final = 10.0
"""The processes of all containers are gone through for it."""

NO_SUCH_DIRECTORY: Final = "no such directory (yet)"
"""The reason given for a directory that the user asked for and that may still be created."""

MAX_SETTLE_SECONDS: Final = 12.0
"""A little more than ten beats of a sidecar as it comes, after which it is stalled."""

CLOCK_TICK_NS: Final = 100_000_000
"""Longer than the steps in which the kernel advances the timestamps of files in memory."""


class ProcessState(Record):
    """One sidecar's file at this moment. A file that can't be read is a row with a `problem`, never an exception."""

    key: str
    """Stays the same while the process lives, even when its file is replaced by a larger one."""
    path: Path
    pid: int
    user: str
    liveness: Liveness
    snapshot: Snapshot | None
    """The last one that could be read; None until the first is published."""
    snapshot_at_ns: int | None = None
    problem: str | None = None
    """Why the newest snapshot could not be read, while an older one is shown."""
    is_local: bool = True
    """Its pid is valid for this viewer too: same boot, same PID namespace."""
    trees: Mapping[str, bytes] = field(default_factory=dict)
    """The layer trees of its models by id, packed as they came: `decode_tree` decodes those that are opened."""
    outer_pid: int | None = None
    """Of a process in a container, seen from outside of it: its pid here."""

    late_seconds: float | None = None
    """For how long this viewer has seen no sign of life of a live process; None if that is nothing unusual."""
    late_since_first_seen: bool = False
    """It gave none since this viewer came, so that it may have been silent for longer."""
    may_lack_trees: bool = False
    """It is from a recording, which keeps only some layer trees."""

    @property
    def shown_pid(self) -> int:
        """The pid that `ps` and `kill` take here, if it is known; else the one in its container."""
        return self.pid if self.outer_pid is None else self.outer_pid

    @property
    def driver_pid(self) -> int | None:
        """The pid by which a driver that speaks to this viewer names it; None if that isn't known."""
        return self.pid if self.is_local else self.outer_pid


class Unreadable(Record):
    """A file or directory among the sidecars' that isn't theirs, is damaged, or can't be trusted."""

    path: Path
    reason: str


class FeedState(Record):
    """The contents of all snapshot files at one moment."""

    directories: tuple[Path, ...]
    processes: tuple[ProcessState, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()


class SnapshotFeed:
    """Reads the snapshot files in some directories. Only one thread at a time may use it."""

    def __init__(
        self,
        directories: Sequence[Path] | None = None,
        clock: Callable[[], float] = time.monotonic,
        group: str | None = None,
    ) -> None:
        """Args:
        directories: What is read; None for the default directories, ours and those that others share with us.
        clock: Monotonic seconds.
        group: Whose members' shared directories are read; None for `GPUMODELS_GROUP`.
        """
        self._chosen = None if directories is None else tuple(dict.fromkeys(directories))
        self._group = os.environ if group is None else {"GPUMODELS_GROUP": group}
        self._clock = clock
        self._directories: tuple[Path, ...] = ()
        self._list_directories_at = float("-inf")
        self._in_containers: list[Path] = []
        self._list_containers_at = float("-inf")
        self._listings: dict[Path, _Listing] = {}
        self._state = FeedState(())

    def poll(self) -> FeedState:
        """Read all files. Returns the identical object as long as nothing has changed."""
        now = self._clock()
        processes: list[ProcessState] = []
        unreadable: list[Unreadable] = []
        directories = self._current_directories(now)
        for directory in directories:
            listing, refusal = self._list(directory, now)
            if refusal is not None:
                unreadable.append(Unreadable(directory, refusal))
            for file in listing.files:
                file.tail.refresh(now)
                row = file.row()
                if isinstance(row, ProcessState):
                    processes.append(row)
                else:
                    unreadable.append(row)
        for removed in self._listings.keys() - set(directories):
            self._listings.pop(removed).close()
        return self._unless_equal(FeedState(directories, tuple(processes), tuple(unreadable)))

    def settle(self, sleep: Callable[[float], None] = time.sleep) -> FeedState:
        """Poll until it is clear whether each file's writer is alive, so that a slow heartbeat isn't taken for a stall.

        For one-shot use; takes at most `MAX_SETTLE_SECONDS`.
        """
        deadline = self._clock() + MAX_SETTLE_SECONDS
        state = self.poll()
        while self._clock() < deadline and self._is_undecided():
            sleep(0.02)
            state = self.poll()
        return state

    def close(self) -> None:
        """Close all files."""
        for listing in self._listings.values():
            listing.close()
        self._listings = {}

    def _is_undecided(self) -> bool:
        realtime_ns = time.time_ns()
        return any(file.tail.is_undecided(realtime_ns) for listing in self._listings.values() for file in listing.files)

    def _current_directories(self, now: float) -> tuple[Path, ...]:
        """The directories to read; other users' can be created at any time, so they are listed again every second."""
        if self._chosen is not None:
            return self._chosen
        if now >= self._list_directories_at:
            if now >= self._list_containers_at:
                self._in_containers = [] if os.environ.get("GPUMODELS_DIR") else container_directories()
                self._list_containers_at = now + LIST_CONTAINERS_SECONDS
            self._directories = (*default_directories(self._group), *self._in_containers)
            self._list_directories_at = now + LIST_DIRECTORIES_SECONDS
        return self._directories

    def _list(self, directory: Path, now: float) -> tuple[_Listing, str | None]:
        """The directory's files, and a reason if some or all of them can't be read."""
        listing = self._listings.get(directory)
        if listing is None:
            listing = self._listings[directory] = _Listing(directory)
        try:
            listing.refresh(now)
        except FileNotFoundError:
            listing.close()
            return listing, NO_SUCH_DIRECTORY if self._chosen is not None else None
        except OSError as error:
            listing.close()
            return listing, error.strerror or str(error)
        return listing, f"holds {listing.count} files; only {MAX_FILES} are read" if listing.count > MAX_FILES else None

    def _unless_equal(self, state: FeedState) -> FeedState:
        """The previous state if nothing differs from it. Rows are compared by identity, so that snapshots aren't traversed."""
        last = self._state
        same = (
            state.directories == last.directories
            and len(state.processes) == len(last.processes)
            and all(map(is_, state.processes, last.processes))
            and state.unreadable == last.unreadable
        )
        if not same:
            self._state = state
        return self._state


def default_directories(group_in: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """Where sidecars' files are if nobody says where: ours, and those of other users that we may read."""
    others = [] if os.environ.get("GPUMODELS_DIR") else other_users_directories(group_in)
    return tuple(dict.fromkeys([default_directory(), *others]))


@cache
def user_name(uid: int) -> str:
    """The name of a user; the number if there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return str(uid)


class _File:
    """A followed file and its row, which is rebuilt when the file changes."""

    def __init__(self, path: Path, owner: int) -> None:
        self.tail = TailedFile(path, owner)
        self._version = -1
        self._row: ProcessState | Unreadable = Unreadable(path, "not read yet")

    def row(self) -> ProcessState | Unreadable:
        tail = self.tail
        if self._version != tail.version:
            self._version = tail.version
            if tail.snapshot is None and tail.problem is not None:
                self._row = Unreadable(tail.path, tail.problem)
            else:
                self._row = ProcessState(
                    key=str(tail.path),
                    path=tail.path,
                    pid=tail.pid,
                    user=user_name(tail.owner),
                    liveness=tail.liveness,
                    snapshot=tail.snapshot,
                    snapshot_at_ns=tail.snapshot_at_ns,
                    problem=tail.problem,
                    is_local=tail.is_local,
                    outer_pid=tail.outer_pid,
                    late_seconds=tail.late_seconds,
                    late_since_first_seen=tail.late_seconds is not None and not tail.has_seen_a_beat,
                    trees=tail.trees,
                )
        return self._row


def _most_relevant(directory: Path, owner: int, names: Sequence[str]) -> list[str]:
    """The `MAX_FILES` names to read, sorted: those that a writer holds first, then the newest of the others."""
    ranks = {name: _rank(directory / name, owner) for name in names}
    return sorted(sorted(names, key=ranks.__getitem__)[:MAX_FILES])


def _rank(path: Path, owner: int) -> float:
    """Lowest for a file that a writer holds; for others, the newer the lower; unreadable files rank last."""
    try:
        descriptor = open_file(path, owner)
    except OSError:
        return 0.0
    try:
        return float("-inf") if is_locked(descriptor) else -os.fstat(descriptor).st_mtime
    except OSError:
        return 0.0
    finally:
        os.close(descriptor)


class _Listing:
    """One directory's files, as last listed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._descriptor = -1
        self._open_again_at = float("-inf")
        self.files: list[_File] = []
        self.count = 0
        """How many files there are, including those beyond `MAX_FILES`."""
        self._names: list[str] = []
        self._owner = -1
        self._modified_ns = -1

    def refresh(self, now: float) -> None:
        """List the directory again if it has changed. Whether it may be trusted is checked again every second.

        Raises:
            OSError: it can't be listed, or may not be trusted.
        """
        directory = self._directory
        status = os.fstat(self._descriptor) if self._descriptor >= 0 else None
        if status is None or not status.st_nlink or now >= self._open_again_at:
            self._close_directory()
            self._descriptor = open_directory(directory, None if os.geteuid() == 0 else {os.geteuid()}, accept_shared=True)
            self._open_again_at = now + LIST_DIRECTORIES_SECONDS
            status = os.fstat(self._descriptor)
        modified_ns, owner = status.st_mtime_ns, status.st_uid
        if modified_ns == self._modified_ns and owner == self._owner:
            return
        names = snapshot_files(self._descriptor)
        # Two changes within one tick of the file system's clock get the same time: only an old enough time proves no change.
        self._modified_ns = modified_ns if time.time_ns() - modified_ns > CLOCK_TICK_NS else -1
        self.count = len(names)
        self._follow(owner, names if len(names) <= MAX_FILES else _most_relevant(directory, owner, names))

    def _follow(self, owner: int, names: list[str]) -> None:
        """Follow these files from now on, keep those that are open already, and close all others."""
        if names == self._names and owner == self._owner:
            return
        known = dict(zip(self._names, self.files, strict=True)) if owner == self._owner else {}
        files = [known.get(name) or _File(self._directory / name, owner) for name in names]
        for file in set(self.files) - set(files):
            file.tail.close()
        self.files, self._names, self._owner = files, names, owner

    def close(self) -> None:
        """Close the directory and all of its files."""
        self._close_directory()
        self._modified_ns = -1
        self._follow(-1, [])

    def _close_directory(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
