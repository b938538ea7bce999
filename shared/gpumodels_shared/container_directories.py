"""Sidecars' directories inside containers on this machine, for root's viewer: through `/proc/<pid>/root` of one process each.

What is in a container is a stranger's. No symlink on the way is followed, and what is found is checked as every directory is.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
PLACES: Final = (("dev", "shm"), ("tmp",))
"""Where a sidecar's own choice of a directory is, `gpumodels-<uid>`."""
PREFIX: Final = "gpumodels-"
LOCAL: Final = frozenset(
    {"tmpfs", "devtmpfs", "ramfs", "overlay", "ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "squashfs", "erofs"}
)
"""File systems that answer at once. Of one that a program serves, or a network, a stranger could make every question wait."""
MAX_MOUNTS_BYTES: Final = 1024**2
MAX_CONTAINERS: Final = 256
MAX_ENTRIES: Final = 4096
"""Of so many entries of a container's folder, the directories are searched for."""
_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def container_directories(proc: Path = PROC) -> list[Path]:
    """The directories of all containers, each once; empty for everyone but root. Those that are also ours are left out."""
    if os.geteuid() != 0:
        return []
    found: dict[tuple[int, int], Path] = {}
    ours = {status for place in PLACES for status in _identities(Path("/", *place))}
    for pid in _one_of_each_container(proc):
        for place in _local_places(proc / pid / "mountinfo"):
            for identity, name in _directories(proc / pid / "root", place):
                if identity not in ours:
                    found.setdefault(identity, proc.joinpath(pid, "root", *place, name))
    return sorted(found.values())


def _one_of_each_container(proc: Path) -> list[str]:
    """The first process of each mount namespace but ours."""
    try:
        met = {os.stat(proc / "self" / "ns" / "mnt").st_ino}
        pids = sorted((name for name in os.listdir(proc) if name.isdecimal()), key=int)
    except OSError:
        return []
    found: list[str] = []
    for pid in pids:
        with contextlib.suppress(OSError):  # it has ended
            namespace = os.stat(proc / pid / "ns" / "mnt").st_ino
            if namespace not in met:
                met.add(namespace)
                found.append(pid)
    return found[:MAX_CONTAINERS]


def _local_places(mounts: Path) -> list[tuple[str, ...]]:
    """The places that are on local file systems, everything above and below them included, as the kernel says."""
    try:
        with open(mounts, "rb") as file:
            text = file.read(MAX_MOUNTS_BYTES)
    except OSError:
        return []
    remote: set[str] = set()
    for line in text.decode(errors="replace").splitlines():
        mount, _, rest = line.partition(" - ")
        fields = mount.split(" ")
        if len(fields) > 4 and rest.split(" ")[0] not in LOCAL:
            remote.add(fields[4].rstrip("/") + "/")
    return [
        place
        for place in PLACES
        if not any(one.startswith(folder) or folder.startswith(one) for folder in [f"/{'/'.join(place)}/"] for one in remote)
    ]


def _identities(folder: Path) -> Iterator[tuple[int, int]]:
    """Device and inode of the directories that are in a folder of ours."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(PREFIX):
                with contextlib.suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    yield status.st_dev, status.st_ino


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
