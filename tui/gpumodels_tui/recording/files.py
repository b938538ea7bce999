"""Opens recordings: for reading, regular files only, never through a symlink; for writing, new ones only, for their owner."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from pathlib import Path

from gpumodels_tui.recording.lines import RecordingError


def open_for_reading(path: Path) -> int:
    """A descriptor of the file.

    Raises:
        RecordingError: it can't be opened, or is no regular file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        raise _refused(path, error) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise RecordingError(f"{path}: is not a regular file")
    return descriptor


def create(path: Path) -> int:
    """A descriptor of a new file that only its owner can read. Whoever writes it holds its lock.

    Raises:
        RecordingError: it is there already, or can't be made.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _refused(path, error) from error
    with contextlib.suppress(OSError):  # a reader asks for the lock at this moment, or the file system has none
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def is_being_written(descriptor: int) -> bool:
    """Whether its writer holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


def _refused(path: Path, error: OSError) -> RecordingError:
    if path.is_symlink():
        return RecordingError(f"{path}: is a symlink; name the file itself")
    if error.errno == errno.EEXIST:
        return RecordingError(f"{path}: is there already; choose another name, or remove it")
    return RecordingError(f"{path}: {(error.strerror or str(error)).lower()}")
