"""Where snapshot files live, and which directories and files may be trusted there.

A directory is ours, of mode 0700 in effect, and no symlink; a file is a regular one with a single name, of the directory's
owner. What fails is refused with a reason in one line, for a warning or a row.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

FILE_SUFFIX: Final = ".gpm"
TEMPORARY_PREFIX: Final = ".new-"
SHARED_MEMORY: Final = Path("/dev/shm")


class RefusedError(OSError):
    """A directory or file that must not be used; the text says which and why."""


def default_directory(environment: Mapping[str, str] = os.environ, uid: int | None = None) -> Path:
    """`$GPUMODELS_DIR`, else `gpumodels-<uid>` in /dev/shm where that can be written, else in the temporary directory."""
    if chosen := environment.get("GPUMODELS_DIR"):
        directory = Path(chosen)
        with contextlib.suppress(RuntimeError):  # `~nobody`: no such user, so it is a name like any other
            directory = directory.expanduser()
        return directory.absolute()
    name = f"gpumodels-{os.geteuid() if uid is None else uid}"
    if SHARED_MEMORY.is_dir() and os.access(SHARED_MEMORY, os.W_OK | os.X_OK):
        return SHARED_MEMORY / name
    return Path(tempfile.gettempdir()) / name


def every_users_directories() -> list[Path]:
    """What root's viewer looks through: each user's directory, wherever that user's sidecars may have put it.

    Symlinks are among them, for `check_directory` to refuse and to say so.
    """
    found: list[Path] = []
    for parent in {SHARED_MEMORY, Path(tempfile.gettempdir())}:
        for directory in parent.glob("gpumodels-*"):
            if not directory.name.removeprefix("gpumodels-").isdecimal():
                continue
            try:
                mode = os.stat(directory, follow_symlinks=False).st_mode
            except OSError:  # gone by now, or a user's own mount that root may not look into
                continue
            if stat.S_ISDIR(mode) or stat.S_ISLNK(mode):
                found.append(directory)
    return sorted(found)


def ensure_directory(directory: Path) -> None:
    """Make it, mode 0700, or make sure that it may be used.

    Raises:
        RefusedError: a symlink, another user's, or writable by others.
        OSError: it can't be made.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    check_directory(directory, {os.geteuid()})


def check_directory(directory: Path, owners: set[int] | None) -> int:
    """Its owner's uid, if it may be trusted; `owners` None accepts any owner (root's viewer).

    Raises:
        RefusedError: a symlink, no directory, of another owner, or writable by others.
        FileNotFoundError: it isn't there.
    """
    status = os.stat(directory, follow_symlinks=False)
    if stat.S_ISLNK(status.st_mode):
        raise RefusedError(f"{directory} is a symlink; name the directory itself, or set GPUMODELS_DIR")
    if not stat.S_ISDIR(status.st_mode):
        raise RefusedError(f"{directory} is not a directory; remove it, or set GPUMODELS_DIR")
    if owners is not None and status.st_uid not in owners:
        raise RefusedError(f"{directory} belongs to uid {status.st_uid}, not to us; set GPUMODELS_DIR to a directory of yours")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise RefusedError(
            f"{directory} can be written by others (mode {status.st_mode & 0o7777:04o}); run: chmod 700 {directory}"
        )
    return status.st_uid


def snapshot_files(directory: Path) -> list[str]:
    """Names of the snapshot files in it, sorted; whether each can be read is `open_file`'s to find out."""
    return sorted(name for name in os.listdir(directory) if name.endswith(FILE_SUFFIX) and not name.startswith("."))


def open_file(path: Path, owner: int) -> int:
    """A descriptor for reading, if the file may be trusted: regular, one name, of the directory's owner, never waited for.

    Raises:
        RefusedError: it may not be trusted.
        OSError: it can't be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        if path.is_symlink():
            raise RefusedError("is a symlink") from error
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise RefusedError("is not a regular file")
        if status.st_nlink > 1:
            raise RefusedError("has a second name (a hard link)")
        if status.st_uid != owner:
            raise RefusedError(f"belongs to uid {status.st_uid}, its directory to uid {owner}")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
