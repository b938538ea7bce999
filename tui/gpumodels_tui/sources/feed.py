"""Files to snapshots: finds the sidecars' files and makes rows of what they say. Knows no screen."""

from __future__ import annotations

import contextlib
import os
import pwd
import time
from collections.abc import Callable, Sequence
from functools import cache
from operator import is_
from pathlib import Path
from typing import Final

from msgspec import Struct

from gpumodels_shared.liveness import Liveness
from gpumodels_shared.places import (
    RefusedError,
    chosen_group,
    default_directory,
    every_users_directories,
    open_directory,
    open_file,
    shared_directories,
    snapshot_files,
)
from gpumodels_shared.reader import is_held
from gpumodels_shared.schema import Snapshot
from gpumodels_tui.sources.tailing import TailedFile

MAX_FILES: Final = 256
"""Files read per directory; each takes a descriptor. Sidecars keep at most 64 of the dead."""

LIST_DIRECTORIES_SECONDS: Final = 1.0

NOT_THERE: Final = "no such directory (yet)"
"""The reason of a directory that was asked for and may still come."""

MAX_SETTLE_SECONDS: Final = 10.0

CLOCK_TICK_NS: Final = 100_000_000
"""More than the kernel rounds the times of files in memory by."""


class ProcessState(Struct, frozen=True):
    """One sidecar's file as it is now: never an exception, always a row."""

    key: str
    """The same for as long as the process lives, also when its file is replaced by a larger one."""
    path: Path
    pid: int
    user: str
    liveness: Liveness
    snapshot: Snapshot | None
    """The last good one; None before the first was published."""
    snapshot_at_ns: int | None = None
    problem: str | None = None
    """Why the newest could not be read, while the one before it is shown."""
    is_local: bool = True
    """Its pid means the same here as there: same boot, same PID namespace."""


class Unreadable(Struct, frozen=True):
    """A file, or directory, in our place that is no sidecar's, or damaged, or not to be trusted."""

    path: Path
    reason: str


class FeedState(Struct, frozen=True):
    """All that the files say at one moment."""

    directories: tuple[Path, ...]
    processes: tuple[ProcessState, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()


class SnapshotFeed:
    """All sidecars' files of some directories. One thread at a time may use it."""

    def __init__(self, directories: Sequence[Path] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._chosen = None if directories is None else tuple(dict.fromkeys(directories))
        self._clock = clock
        self._directories: tuple[Path, ...] = ()
        self._list_directories_at = float("-inf")
        self._listings: dict[Path, _Listing] = {}
        self._state = FeedState(())

    def poll(self) -> FeedState:
        """All that the files say now; the very same object as before while nothing changed."""
        now = self._clock()
        processes: list[ProcessState] = []
        unreadable: list[Unreadable] = []
        directories = self._look_in(now)
        for directory in directories:
            listing, refusal = self._list(directory)
            if refusal is not None:
                unreadable.append(Unreadable(directory, refusal))
            for file in listing.files:
                file.tail.refresh(now)
                row = file.row()
                if isinstance(row, ProcessState):
                    processes.append(row)
                else:
                    unreadable.append(row)
        for gone in self._listings.keys() - set(directories):
            self._listings.pop(gone).close()
        return self._newest(FeedState(directories, tuple(processes), tuple(unreadable)))

    def settle(self, sleep: Callable[[float], None] = time.sleep) -> FeedState:
        """For one look: polls until each file has shown whether its writer lives, so that a slow beat isn't taken for none."""
        deadline = self._clock() + MAX_SETTLE_SECONDS
        state = self.poll()
        while self._clock() < deadline and self._is_undecided():
            sleep(0.02)
            state = self.poll()
        return state

    def close(self) -> None:
        """Let go of all files."""
        for listing in self._listings.values():
            listing.close()
        self._listings = {}

    def _is_undecided(self) -> bool:
        realtime_ns = time.time_ns()
        return any(file.tail.is_undecided(realtime_ns) for listing in self._listings.values() for file in listing.files)

    def _look_in(self, now: float) -> tuple[Path, ...]:
        """The directories; other users' may come at any time, so root's viewer looks for them every second."""
        if self._chosen is not None:
            return self._chosen
        if now >= self._list_directories_at:
            own = default_directory()
            others = [] if os.environ.get("GPUMODELS_DIR") else _other_users_directories()
            self._directories = tuple(dict.fromkeys([own, *others]))
            self._list_directories_at = now + LIST_DIRECTORIES_SECONDS
        return self._directories

    def _list(self, directory: Path) -> tuple[_Listing, str | None]:
        """The directory's files, those known before among them, and why they aren't all, if they aren't."""
        listing = self._listings.setdefault(directory, _Listing())
        try:
            descriptor = open_directory(directory, None if os.geteuid() == 0 else {os.geteuid()}, accept_shared=True)
            try:
                listing.refresh(directory, descriptor)
            finally:
                os.close(descriptor)
        except FileNotFoundError:
            listing.follow(directory, -1, [])
            return listing, NOT_THERE if self._chosen is not None else None
        except OSError as error:
            listing.follow(directory, -1, [])
            return listing, error.strerror or str(error)
        return listing, f"holds {listing.count} files; only {MAX_FILES} are read" if listing.count > MAX_FILES else None

    def _newest(self, state: FeedState) -> FeedState:
        """The last state where nothing differs from it. Rows are compared as objects: equal snapshots aren't walked again."""
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


def _other_users_directories() -> list[Path]:
    """All of them for root; those that `GPUMODELS_GROUP` may read for whoever set that."""
    if os.geteuid() == 0:
        return every_users_directories()
    with contextlib.suppress(RefusedError):  # no such group: the sidecars, which set it too, say so
        if (group := chosen_group()) is not None:
            return shared_directories(group)
    return []


@cache
def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


class _File:
    """A followed file and the row that shows it, made anew when the file has news."""

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
                    user=_user_name(tail.owner),
                    liveness=tail.liveness,
                    snapshot=tail.snapshot,
                    snapshot_at_ns=tail.snapshot_at_ns,
                    problem=tail.problem,
                    is_local=tail.is_local,
                )
        return self._row


def _most_alive(directory: Path, owner: int, names: Sequence[str]) -> list[str]:
    """As many as are read, sorted: those that a writer holds, then the youngest of the others."""
    ranks = {name: _rank(directory / name, owner) for name in names}
    return sorted(sorted(names, key=ranks.__getitem__)[:MAX_FILES])


def _rank(path: Path, owner: int) -> float:
    """Lowest for what is held; for the rest, the lower the younger; what can't be read comes last."""
    try:
        descriptor = open_file(path, owner)
    except OSError:
        return 0.0
    try:
        return float("-inf") if is_held(descriptor) else -os.fstat(descriptor).st_mtime
    except OSError:
        return 0.0
    finally:
        os.close(descriptor)


class _Listing:
    """One directory's files, as last listed."""

    def __init__(self) -> None:
        self.files: list[_File] = []
        self.count = 0
        """How many there are, also those too many to follow."""
        self._names: list[str] = []
        self._owner = -1
        self._modified_ns = -1

    def refresh(self, directory: Path, descriptor: int) -> None:
        """List the directory, open as `descriptor`, anew if it changed since.

        Raises:
            OSError: it can't be listed.
        """
        status = os.fstat(descriptor)
        modified_ns, owner = status.st_mtime_ns, status.st_uid
        if modified_ns == self._modified_ns and owner == self._owner:
            return
        names = snapshot_files(descriptor)
        # Two changes within one tick of the file system's clock have one time: only a time well past is a proof of no change.
        self._modified_ns = modified_ns if time.time_ns() - modified_ns > CLOCK_TICK_NS else -1
        self.count = len(names)
        self.follow(directory, owner, names if len(names) <= MAX_FILES else _most_alive(directory, owner, names))

    def follow(self, directory: Path, owner: int, names: list[str]) -> None:
        """Follow these from now on, keeping the ones known; let go of all others."""
        if names == self._names and owner == self._owner:
            return
        known = dict(zip(self._names, self.files, strict=True)) if owner == self._owner else {}
        files = [known.get(name) or _File(directory / name, owner) for name in names]
        for file in set(self.files) - set(files):
            file.tail.close()
        self.files, self._names, self._owner = files, names, owner

    def close(self) -> None:
        """Let go of all of them."""
        self.follow(Path(), -1, [])
