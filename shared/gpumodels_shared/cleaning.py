"""What is left of processes that ended, and when it goes: done by a starting sidecar, in its own directory, for its own user."""

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
"""How long a dead process's last snapshot stays on view."""

MAX_DEAD_FILES: Final = 64
"""Younger dead files than that go too, the oldest first, where there are more of them."""

OTHER_BOOT_SECONDS: Final = 60.0
"""What still beats is another machine's: a network file system may show its files and not its locks."""

TEMPORARY_KEPT_SECONDS: Final = 3600.0
"""No writer takes so long to fill a file that hasn't its name yet."""


@dataclass(frozen=True, slots=True)
class _DeadFile:
    """A whole file that nobody holds."""

    path: Path
    last_sign_ns: int
    """When its writer last beat; its time of change where that is later or the beat can't be read."""
    header: Header


def clean_dead_files(
    directory: Path,
    now_ns: int | None = None,
    current_boot: bytes | None = None,
    kept_seconds: float = KEPT_SECONDS,
    max_dead_files: int = MAX_DEAD_FILES,
) -> int:
    """Remove our own dead files that are older than a day, of another boot, or too many, and temporaries left for an hour.

    A file that a writer holds is never removed, nor one that can't be read: it may be of a version that we don't know.

    Args:
        now_ns: realtime nanoseconds; the clock's unless given.
        current_boot: the running system's boot id; read unless given.

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
        gone_with_its_boot = of_another_boot and age_seconds > OTHER_BOOT_SECONDS
        if gone_with_its_boot or age_seconds > kept_seconds or kept >= max_dead_files:
            removed += _remove_if_dead(file.path, owner)
        else:
            kept += 1
    return removed + _clean_temporaries(directory, owner, now_ns)


def clean_own_predecessors(directory: Path, identity: ProcessIdentity, keep: Path) -> int:
    """Remove what this very process left by an earlier `stop()`, or before `exec`: it lives on, and `keep` speaks for it now.

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
    """The file, if it is ours, whole and held by nobody."""
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
    """Remove the file unless it lives after all.

    A writer that outgrows its file gives the name to a larger one before it lets go of this: so what is free, and still has
    its name when that is looked at afterwards, is dead for good.
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
    """Remove what a writer left that was killed before its file had its name."""
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
