"""Checks of the directories of snapshot files, and of the room in them."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gpumodels_shared.codec import MAX_PAYLOAD_BYTES
from gpumodels_shared.layout import HEADER_BYTES, SLOT_HEADER_BYTES
from gpumodels_shared.units import format_bytes
from gpumodels_shared.writer import SMALLEST_SLOT_BYTES
from gpumodels_tui.doctor.findings import Finding, failed, passed, warned
from gpumodels_tui.doctor.machine import Machine
from gpumodels_tui.doctor.user_names import user_name

SMALLEST_FILE_BYTES: Final = HEADER_BYTES + 2 * SMALLEST_SLOT_BYTES
LARGEST_FILE_BYTES: Final = HEADER_BYTES + 2 * (SLOT_HEADER_BYTES + MAX_PAYLOAD_BYTES)

NEEDS_NEWER: Final = "needs a newer gpumodels-tui"


def path(machine: Machine) -> Iterator[Finding]:
    """Whether each directory is one, or can become one."""
    for directory in machine.directories:
        try:
            status = _status(directory)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            yield failed(f"{directory} can't be reached: {reason}", "Run this as its owner or as root, or set GPUMODELS_DIR.")
            continue
        if status is not None and stat.S_ISLNK(status.st_mode):
            yield failed(f"{directory} is a symlink, which is never followed", "Name the directory itself in GPUMODELS_DIR.")
        elif status is not None and not stat.S_ISDIR(status.st_mode):
            yield failed(f"{directory} is not a directory", "Remove it, or set GPUMODELS_DIR.")
        elif status is not None:
            yield passed(f"{directory} is there")
        elif machine.sources.feed_directories is not None:
            yield warned(f"{directory} doesn't exist", "Start a process with GPUMODELS_DIR set to it, or correct --dir.")
        elif _can_be_made(directory):
            yield passed(f"{directory} doesn't exist yet; the first sidecar makes it")
        else:
            yield failed(f"{directory} doesn't exist, and can't be made", "Set GPUMODELS_DIR to a directory that can be written.")


def owner(machine: Machine) -> Iterator[Finding]:
    """Whether each directory belongs to who may be trusted."""
    for directory, status in _present(machine):
        name = user_name(status.st_uid)
        if status.st_uid == machine.uid:
            yield passed(f"{directory} is yours ({name})")
        elif machine.uid == 0:
            yield passed(f"{directory} is {name}'s, and you are root")
        elif status.st_gid in {os.getegid(), *os.getgroups()} and status.st_mode & 0o050 == 0o050:
            yield passed(f"{directory} is {name}'s, and a group of yours may read it")
        else:
            yield failed(f"{directory} belongs to {name}, not to you", "Run this as its owner or as root, or set GPUMODELS_DIR.")
    if not _present(machine):
        yield passed("there is no directory yet")


def mode(machine: Machine) -> Iterator[Finding]:
    """Whether only the owner may write in each directory."""
    for directory, status in _present(machine):
        bits = stat.S_IMODE(status.st_mode)
        shown = f"{directory} has mode {bits:04o}"
        if bits & 0o022:
            yield failed(f"{shown}: others can write in it, so it is refused", f"Run: chmod 700 {directory}")
        elif status.st_uid == machine.uid and bits & 0o700 != 0o700:
            yield failed(f"{shown}: its owner can't use it", f"Run: chmod 700 {directory}")
        elif bits & 0o005:
            yield warned(f"{shown}: all users can see which processes have a sidecar", f"Run: chmod 700 {directory}")
        else:
            yield passed(shown)
    if not _present(machine):
        yield passed("there is no directory yet")


def room(machine: Machine) -> Iterator[Finding]:
    """Whether the file systems have room for the files of more processes."""
    seen: set[int] = set()
    for directory in machine.directories:
        existing = next((one for one in (directory, *directory.parents) if os.path.isdir(one)), Path("/"))  # noqa: PTH112
        device = os.stat(existing).st_dev
        if device in seen:
            continue
        seen.add(device)
        system = os.statvfs(existing)
        free = system.f_bavail * system.f_frsize
        shown = f"{format_bytes(free)} are free in {existing}"
        step = "Make room there, give a container more by `--shm-size`, or set GPUMODELS_DIR to another file system."
        if free < SMALLEST_FILE_BYTES:
            yield failed(f"{shown}: a sidecar needs {format_bytes(SMALLEST_FILE_BYTES)} at least", step)
        elif system.f_files and not system.f_favail:
            yield failed(f"no file can be made in {existing}: it has no inodes left", step)
        elif free < 2 * LARGEST_FILE_BYTES:
            yield warned(f"{shown}: a sidecar of a large model takes up to {format_bytes(LARGEST_FILE_BYTES)}", step)
        else:
            yield passed(shown)


def files(machine: Machine) -> Iterator[Finding]:
    """Whether all files in the directories can be read."""
    unreadable = [one for one in machine.feed.unreadable if one.path not in machine.directories and NEEDS_NEWER not in one.reason]
    for one in unreadable:
        yield warned(f"{one.path.name}: {one.reason}", "Remove it if no process writes it any more.")
    for one in machine.feed.unreadable:
        if one.path in machine.directories and "holds" in one.reason:
            yield warned(f"{one.path} {one.reason}", "Remove the files of processes that have ended.")
    if not unreadable:
        yield passed(f"files that can be read: {len(machine.feed.processes)}")


def _present(machine: Machine) -> list[tuple[Path, os.stat_result]]:
    found: list[tuple[Path, os.stat_result]] = []
    for directory in machine.directories:
        with contextlib.suppress(OSError):  # `path` says so
            if (status := _status(directory)) is not None:
                found.append((directory, status))
    return found


def _status(directory: Path) -> os.stat_result | None:
    """Its own, not that of what a symlink leads to; None if there is no such directory.

    Raises:
        OSError: that can't be known.
    """
    try:
        return os.stat(directory, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _can_be_made(directory: Path) -> bool:
    nearest = next((one for one in directory.parents if os.path.lexists(one)), Path("/"))
    return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
