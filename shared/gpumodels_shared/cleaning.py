"""Removes files that ended processes left behind. A starting sidecar does it, in its own directory, for its own user."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gpumodels_shared.identity import NO_ID, ProcessIdentity, boot_id
from gpumodels_shared.layout import Header, LayoutError
from gpumodels_shared.places import TEMPORARY_PREFIX, open_file, snapshot_files
from gpumodels_shared.reader import SnapshotReader

KEPT_SECONDS: Final = 24 * 3600.0
"""How long a dead process's last snapshot is kept."""

MAX_DEAD_FILES: Final = 64
"""If there are more dead files than this, younger ones are removed too, the oldest first."""

OTHER_BOOT_SECONDS: Final = 60.0
"""A file of another boot that was written to within this time belongs to another machine, whose files, but not whose locks,
a network file system shows."""

TEMPORARY_KEPT_SECONDS: Final = 3600.0
"""When a temporary file is removed: no writer takes this long to fill and rename one."""


@dataclass(frozen=True, slots=True)
class _DeadFile:
    """A complete file that no process holds a lock on."""

    path: Path
    last_sign_ns: int
    """The time of its last heartbeat or its time of change, whichever is later; realtime nanoseconds."""
    header: Header


def clean_dead_files(
    directory: Path,
    now_ns: int | None = None,
    current_boot: bytes | None = None,
    kept_seconds: float = KEPT_SECONDS,
    max_dead_files: int = MAX_DEAD_FILES,
) -> int:
    """Remove our own dead files that are older than a day, of another boot, or too many, and temporary files left for an hour.

    A file that a writer holds is never removed, nor is one that can't be read: it may be of an unknown version.

    Args:
        directory: the directory of snapshot files.
        now_ns: realtime nanoseconds; by default the current time.
        current_boot: the running system's boot id; read by default.
        kept_seconds: how long dead files are kept.
        max_dead_files: how many dead files are kept at most.

    Returns:
        How many files were removed.

    Raises:
        OSError: the directory can't be listed.
    """
    now_ns = time.time_ns() if now_ns is None else now_ns
    current_boot = boot_id() if current_boot is None else current_boot
    owner = os.geteuid()
    dead = [file for name in snapshot_files(directory) if (file := _dead_file(directory / name, owner)) is not None]
    dead.sort(key=lambda file: file.last_sign_ns, reverse=True)
    removed = kept = 0
    for file in dead:
        age_seconds = (now_ns - file.last_sign_ns) / 1e9
        of_another_boot = NO_ID not in (current_boot, file.header.boot_id) and file.header.boot_id != current_boot
        ended_by_reboot = of_another_boot and age_seconds > OTHER_BOOT_SECONDS
        if ended_by_reboot or age_seconds > kept_seconds or kept >= max_dead_files:
            removed += _remove_if_dead(file.path, owner)
        else:
            kept += 1
    return removed + _clean_temporaries(directory, owner, now_ns)


def clean_own_predecessors(directory: Path, identity: ProcessIdentity, keep: Path) -> int:
    """Remove files that this process itself left at an earlier `stop()`, or before `exec`.

    Args:
        directory: the directory of snapshot files.
        identity: this process's.
        keep: the file that the process writes to now.

    Returns:
        How many files were removed.

    Raises:
        OSError: the directory can't be listed.
    """
    removed = 0
    for name in snapshot_files(directory):
        path = directory / name
        if path == keep or not name.startswith(f"{identity.pid}-{identity.start_ticks}-"):
            continue
        file = _dead_file(path, os.geteuid())
        if file is not None and (file.header.boot_id, file.header.pid_namespace) == (identity.boot_id, identity.pid_namespace):
            removed += _remove_if_dead(path, os.geteuid())
    return removed


def _dead_file(path: Path, owner: int) -> _DeadFile | None:
    """The file, if it is ours, complete, and no process holds a lock on it."""
    try:
        reader = SnapshotReader(path, owner)
    except (LayoutError, OSError):
        return None
    try:
        if reader.is_locked():
            return None
        return _DeadFile(path, max(_last_beat_ns(reader), os.stat(path, follow_symlinks=False).st_mtime_ns), reader.header)
    except OSError:
        return None
    finally:
        reader.close()


def _last_beat_ns(reader: SnapshotReader) -> int:
    try:
        return reader.heartbeat().realtime_ns
    except LayoutError:
        return 0


def _remove_if_dead(path: Path, owner: int) -> bool:
    """Remove the file unless it turns out to be in use.

    A writer that outgrows its file gives the name to a larger one before it releases the lock. So a file that is unlocked, and
    whose path still leads to it when that is checked afterwards, is dead for good.
    """
    try:
        reader = SnapshotReader(path, owner)
    except (LayoutError, OSError):
        return False
    try:
        if reader.is_locked() or not reader.still_named():
            return False
        path.unlink()
    except OSError:
        return False
    finally:
        reader.close()
    return True


def _clean_temporaries(directory: Path, owner: int, now_ns: int) -> int:
    """Remove temporary files of writers that were killed before they renamed them."""
    removed = 0
    for name in os.listdir(directory):
        path = directory / name
        if not name.startswith(TEMPORARY_PREFIX):
            continue
        with contextlib.suppress(OSError):
            descriptor = open_file(path, owner)
            try:
                if now_ns - os.fstat(descriptor).st_mtime_ns > TEMPORARY_KEPT_SECONDS * 1e9:
                    fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    path.unlink()
                    removed += 1
            finally:
                os.close(descriptor)
    return removed
