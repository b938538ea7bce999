"""What lies in a directory tree: model files by name, real path and stamp. Nothing is opened here but directories."""

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
"""A symlink to one of these is no place for models."""

NEVER_WATCHED: Final = NEVER_ENTERED | {"/tmp", "/var/tmp", "/dev/shm"}
"""What happens in these, because one file in them was named, is nobody's business."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """One state of one file's content, as far as the file system tells."""

    device: int
    inode: int
    size_bytes: int
    modified_ns: int
    changed_ns: int
    """Also moves when a copy takes over its original's modification time."""

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """What a stat call says."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@dataclass(frozen=True, slots=True)
class Sighting:
    """One name at one moment."""

    path: str
    real: str
    """Symlinks resolved; the path itself where that fails."""
    stamp: Stamp | None
    """None where there is nothing to read."""
    problem: str | None = None
    """Why not."""


@dataclass(slots=True)
class Listing:
    """One directory's model files, and what else a walk needs."""

    path: str
    real: str
    sightings: list[Sighting] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    """Symlinks to directories: not entered by the walk that finds them."""
    problem: str | None = None


def look_at(path: str) -> Sighting | None:
    """The name as it is now; None where there is none."""
    try:
        real = os.path.realpath(path, strict=True)
        status = os.stat(real)
    except OSError as error:
        if not os.path.lexists(path):
            return None
        problem = "a symlink to nothing" if error.errno == errno.ENOENT else _reason(error)
        return Sighting(path, path, None, problem)
    return _sighting(path, real, status)


def walk(directory: str, may_enter: Callable[[str, str], bool]) -> Iterator[Listing]:
    """The directory and all below it, each once, symlinks to directories left to the caller.

    Args:
        directory: as its user names it; may be a symlink itself.
        may_enter: asked with each directory's path and real path.
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
    """Whether a symlink leads to a directory here."""
    place = Path(path)
    return place.is_symlink() and place.is_dir()


def _list(entry: os.DirEntry[str], listing: Listing, waiting: list[tuple[str, str]]) -> None:
    is_model = suffix_of(entry.name) is not None
    try:
        if entry.is_symlink():
            if is_model:
                sighting = look_at(entry.path)
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
        return  # gone since it was listed
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
