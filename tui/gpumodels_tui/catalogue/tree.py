"""Lists the model files of a directory tree by name, real path and stamp. Opens only directories."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gpumodels_tui.headers.formats import suffix_of

NEVER_ENTERED: Final = frozenset({"/", "/proc", "/sys", "/dev"})
"""A symlink to one of these is never taken for a model directory."""

NEVER_WATCHED: Final = NEVER_ENTERED | {"/tmp", "/var/tmp", "/dev/shm"}
"""Not watched even if a snapshot names a file in them: too much else happens there."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """Identifies one state of a file's content, as far as the file system can tell."""

    device: int
    inode: int
    size_bytes: int
    modified_ns: int
    changed_ns: int
    """Changes even when a copy is given its original's modification time."""

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """The stamp in the result of a stat call."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@dataclass(frozen=True, slots=True)
class Sighting:
    """One path, and what was found there at one moment."""

    path: str
    real: str
    """The path with symlinks resolved, or unchanged if that fails."""
    stamp: Stamp | None
    """None if it can't be read."""
    problem: str | None = None
    """Why it can't be read."""


@dataclass(slots=True)
class Listing:
    """One directory's model files, and its symlinks to other directories."""

    path: str
    real: str
    sightings: list[Sighting] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    """Symlinks to directories, which the walk that finds them doesn't enter."""
    problem: str | None = None


def inspect_path(path: str) -> Sighting | None:
    """What is at this path now; None if nothing is."""
    try:
        real = os.path.realpath(path, strict=True)
        status = os.stat(real)
    except OSError as error:
        if not os.path.lexists(path):
            return None
        problem = "a broken symlink" if error.errno == errno.ENOENT else _reason(error)
        return Sighting(path, path, None, problem)
    return _sighting(path, real, status)


def walk(directory: str, may_enter: Callable[[str, str], bool]) -> Iterator[Listing]:
    """List the directory and all directories below it, without following symlinks to directories.

    Args:
        directory: the path as the user gave it; may be a symlink itself.
        may_enter: called with each directory's path and real path; False skips it.
    """
    waiting = [(directory, os.path.realpath(directory))]
    while waiting:
        path, real = waiting.pop()
        if not may_enter(path, real):
            continue
        listing = Listing(path, real)
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    _list(entry, listing, waiting)
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                listing.problem = _reason(error)
        yield listing


def is_directory_link(path: str) -> bool:
    """Whether the path is a symlink to a directory."""
    link = Path(path)
    return link.is_symlink() and link.is_dir()


def _list(entry: os.DirEntry[str], listing: Listing, waiting: list[tuple[str, str]]) -> None:
    is_model = suffix_of(entry.name) is not None
    try:
        if entry.is_symlink():
            if is_model:
                sighting = inspect_path(entry.path)
                if sighting is not None:
                    listing.sightings.append(sighting)
            elif entry.is_dir():
                listing.links.append(entry.path)
            return
        real = f"{listing.real}/{entry.name}" if listing.real != "/" else entry.path
        if entry.is_dir(follow_symlinks=False):
            waiting.append((entry.path, real))
        if is_model:
            listing.sightings.append(_sighting(entry.path, real, entry.stat(follow_symlinks=False)))
    except FileNotFoundError:
        return  # deleted since it was listed
    except OSError as error:
        if is_model:
            listing.sightings.append(Sighting(entry.path, entry.path, None, _reason(error)))


def _sighting(path: str, real: str, status: os.stat_result) -> Sighting:
    if stat.S_ISREG(status.st_mode):
        return Sighting(path, real, Stamp.of(status))
    return Sighting(path, real, None, f"not a regular file ({_KINDS.get(stat.S_IFMT(status.st_mode), 'something else')})")


_KINDS: Final = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
