"""Sidecars' directories inside containers on this machine, for root's viewer: through `/proc/<pid>/root` of one process each.

What is in a container is a stranger's. No symlink on the way is followed, and what is found is checked as every directory is.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gpumodels_shared.places import open_directory

PROC: Final = Path("/proc")
PLACES: Final = (("dev", "shm"), ("tmp",))
"""Where a sidecar's own choice of a directory is, `gpumodels-<uid>`."""
PREFIX: Final = "gpumodels-"
LOCAL: Final = frozenset(
    {"tmpfs", "devtmpfs", "ramfs", "overlay", "ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "squashfs", "erofs"}
)
"""File systems that answer at once. Of one that a program serves, or a network, a stranger could make every question wait."""
MAX_MOUNTS_BYTES: Final = 1024**2
CHOICE: Final = b"GPUMODELS_DIR="
MAX_ENVIRONMENT_BYTES: Final = 128 * 1024
MAX_CHOICES: Final = 8
"""Directories of one container that its processes chose themselves."""
MAX_PROCESSES: Final = 64
"""Of so many processes of one container, the environment is read."""
MAX_PATH: Final = 512
MAX_CONTAINERS: Final = 256
MAX_ENTRIES: Final = 4096
"""Of so many entries of a container's folder, the directories are searched for."""
_ESCAPED: Final = r"\\([0-7]{3})"
"""How mountinfo writes blanks and the like."""
_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def container_directories(proc: Path = PROC) -> list[Path]:
    """The directories of all containers, each once; empty for everyone but root. Those that are also ours are left out."""
    if os.geteuid() != 0:
        return []
    found: dict[tuple[int, int], Path] = {}
    ours = {status for place in PLACES for status in _identities(Path("/", *place))}
    for pids in _containers(proc):
        first, remote = proc / pids[0], _remote_folders(proc / pids[0] / "mountinfo")
        if remote is None:
            continue
        for place in PLACES:
            for identity, name in _directories(first / "root", place) if _is_local(place, remote) else ():
                if identity not in ours:
                    found.setdefault(identity, first.joinpath("root", *place, name))
        for choice in _choices(proc, pids):
            chosen = _identity(first / "root", choice) if _is_local(choice, remote) else None
            if chosen is not None and chosen not in ours:
                found.setdefault(chosen, first.joinpath("root", *choice))
    return sorted(found.values())


def _containers(proc: Path) -> list[list[str]]:
    """The processes of each mount namespace but ours, the oldest first."""
    try:
        own = os.stat(proc / "self" / "ns" / "mnt").st_ino
        pids = sorted((name for name in os.listdir(proc) if name.isdecimal()), key=int)
    except OSError:
        return []
    found: dict[int, list[str]] = {}
    for pid in pids:
        with contextlib.suppress(OSError):  # it has ended
            namespace = os.stat(proc / pid / "ns" / "mnt").st_ino
            if namespace != own:
                found.setdefault(namespace, []).append(pid)
    return list(found.values())[:MAX_CONTAINERS]


def _choices(proc: Path, pids: list[str]) -> list[tuple[str, ...]]:
    """What processes of one container have in GPUMODELS_DIR, as far as that is an absolute path without detours."""
    found: dict[tuple[str, ...], None] = {}
    for pid in pids[:MAX_PROCESSES]:
        try:
            with open(proc / pid / "environ", "rb") as file:
                text = file.read(MAX_ENVIRONMENT_BYTES)
        except OSError:
            continue
        stated = next((entry.removeprefix(CHOICE) for entry in text.split(b"\0") if entry.startswith(CHOICE)), b"")
        parts = tuple(part for part in os.fsdecode(stated).split("/") if part not in ("", "."))
        if stated.startswith(b"/") and len(stated) <= MAX_PATH and parts and ".." not in parts:
            found[parts] = None
    return list(found)[:MAX_CHOICES]


def _remote_folders(mounts: Path) -> set[str] | None:
    """Where file systems are mounted that aren't local, each with a slash at its end; None if the kernel doesn't say."""
    try:
        with open(mounts, "rb") as file:
            text = file.read(MAX_MOUNTS_BYTES)
    except OSError:
        return None
    remote: set[str] = set()
    for line in os.fsdecode(text).splitlines():
        mount, _, rest = line.partition(" - ")
        fields = mount.split(" ")
        if len(fields) > 4 and rest.split(" ")[0] not in LOCAL:
            remote.add(re.sub(_ESCAPED, lambda octal: chr(int(octal[1], 8)), fields[4]).rstrip("/") + "/")
    return remote


def _is_local(place: tuple[str, ...], remote: set[str]) -> bool:
    """Whether everything above and below this place is on local file systems."""
    folder = f"/{'/'.join(place)}/"
    return not any(one.startswith(folder) or folder.startswith(one) for one in remote)


def _identities(folder: Path) -> Iterator[tuple[int, int]]:
    """Device and inode of the directories that are in a folder of ours."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(PREFIX):
                with contextlib.suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    yield status.st_dev, status.st_ino


def _identity(root: Path, place: tuple[str, ...]) -> tuple[int, int] | None:
    """Device and inode of a directory; None if there is none that a step each leads to, without any symlink."""
    try:
        descriptor = open_directory(root.joinpath(*place), None)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        return status.st_dev, status.st_ino
    finally:
        os.close(descriptor)


def _directories(root: Path, place: tuple[str, ...]) -> Iterator[tuple[tuple[int, int], str]]:
    """Device, inode and name of the directories there, each step taken from the descriptor of the one before."""
    descriptors: list[int] = []
    try:
        descriptors.append(os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))  # the kernel's own link
        for name in place:
            descriptors.append(os.open(name, _FLAGS, dir_fd=descriptors[-1]))
        with os.scandir(descriptors[-1]) as entries:
            names = [entry.name for entry, _ in zip(entries, range(MAX_ENTRIES), strict=False)]
        for name in names:
            if name.startswith(PREFIX) and name.removeprefix(PREFIX).isdecimal():
                status = os.stat(name, dir_fd=descriptors[-1], follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    yield (status.st_dev, status.st_ino), name
    except OSError:  # the container ended, or has no such folder, or a symlink in its place
        return
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
