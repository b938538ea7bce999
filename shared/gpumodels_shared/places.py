"""Locates the directory of snapshot files, and checks which directories and files may be trusted.

A directory must belong to us, be writable by us only, and not be a symlink; a file must be a regular file with a single name and
belong to the directory's owner. Otherwise it is refused with a reason in one line. Checks are made on descriptors, and files are
opened relative to their directory's descriptor, so that replacing a directory by a symlink between check and use gains nothing.
Of a directory in a container, `/proc/<pid>/root/…`, every step is taken so: a symlink made in there would lead to files out here.

With `GPUMODELS_GROUP`, and only then, a group may read: the directory is 0750, files are 0640, both of that group.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

FILE_SUFFIX: Final = ".gpm"
TEMPORARY_PREFIX: Final = ".new-"
SHARED_MEMORY: Final = Path("/dev/shm")


_DIRECTORY_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_STEP_FLAGS: Final = _DIRECTORY_FLAGS | os.O_NONBLOCK
_FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


class RefusedError(OSError):
    """A directory or file that must not be used; the text says which and why."""

    def __init__(self, reason: str) -> None:
        super().__init__(errno.EPERM, reason)

    def __str__(self) -> str:
        return str(self.strerror)


def default_directory(environment: Mapping[str, str] = os.environ, uid: int | None = None) -> Path:
    """`$GPUMODELS_DIR`, else `gpumodels-<uid>` in /dev/shm if that is writable, else in the temporary directory."""
    if chosen := environment.get("GPUMODELS_DIR"):
        directory = Path(chosen)
        with contextlib.suppress(RuntimeError):  # `~nobody`: there is no such user, so it is an ordinary name
            directory = directory.expanduser()
        return directory.absolute()
    name = f"gpumodels-{os.geteuid() if uid is None else uid}"
    has_shared_memory = SHARED_MEMORY.is_dir() and os.access(SHARED_MEMORY, os.W_OK | os.X_OK)
    directory = (SHARED_MEMORY if has_shared_memory else _temporary_directory()) / name
    return directory if uid is not None else _ours(directory)


def _ours(directory: Path) -> Path:
    """The directory; in a user namespace where it is of somebody who has this uid outside, the one named for our uid outside."""
    try:
        if os.stat(directory, follow_symlinks=False).st_uid == os.geteuid():
            return directory
        lines = Path("/proc/self/uid_map").read_bytes().splitlines()
    except OSError:  # it is to be made yet, or there are no user namespaces
        return directory
    for within, outside, count in (map(int, line.split()) for line in lines):
        if within <= os.geteuid() < within + count and within != outside:
            return directory.with_name(f"gpumodels-{outside + os.geteuid() - within}")
    return directory


def _temporary_directory() -> Path:
    import tempfile  # a process whose files are in shared memory does without it, and all that it imports

    return Path(tempfile.gettempdir())


def every_users_directories() -> list[Path]:
    """The default directories of all users, for root's viewer.

    Symlinks are included, so that `check_directory` refuses them with a reason.
    """
    found: list[Path] = []
    for parent in {SHARED_MEMORY, _temporary_directory()}:
        for directory in parent.glob("gpumodels-*"):
            if not directory.name.removeprefix("gpumodels-").isdecimal():
                continue
            try:
                mode = os.stat(directory, follow_symlinks=False).st_mode
            except OSError:  # removed meanwhile, or on a user's own mount that root may not access
                continue
            if stat.S_ISLNK(mode) or (stat.S_ISDIR(mode) and os.access(directory, os.R_OK | os.X_OK)):
                found.append(directory)  # in a user namespace of its own, root may not read those of others
    return sorted(found)


def own_directories() -> list[Path]:
    """The default directories that belong to us: those that we made in a user namespace, where our uid is 0, are called so."""
    found: list[Path] = []
    for directory in every_users_directories():
        with contextlib.suppress(OSError):
            status = os.stat(directory, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
                found.append(directory)
    return found


def shared_directories(group: int) -> list[Path]:
    """The default directories of all users that belong to this group, for a viewer with `GPUMODELS_GROUP`."""
    found: list[Path] = []
    for directory in every_users_directories():
        with contextlib.suppress(OSError):
            if os.stat(directory, follow_symlinks=False).st_gid == group:
                found.append(directory)
    return found


def other_users_directories(environment: Mapping[str, str] = os.environ) -> list[Path]:
    """Every user's for root; for others, all that are theirs, and those that the group in `GPUMODELS_GROUP` may read."""
    if os.geteuid() == 0:
        return every_users_directories()
    found = own_directories()
    with contextlib.suppress(RefusedError):  # no such group: the sidecars, which read the same variable, report it
        if (group := chosen_group(environment)) is not None:
            found += [directory for directory in shared_directories(group) if directory not in found]
    return found


def chosen_group(environment: Mapping[str, str] = os.environ) -> int | None:
    """The gid of `$GPUMODELS_GROUP`, which may be a name or a number; None if it is unset or empty.

    Raises:
        RefusedError: there is no such group.
    """
    chosen = environment.get("GPUMODELS_GROUP", "")
    if not chosen:
        return None
    if chosen.isdecimal():
        return int(chosen)
    try:
        return grp.getgrnam(chosen).gr_gid
    except KeyError as error:
        raise RefusedError(f"GPUMODELS_GROUP={chosen}: no such group") from error


def ensure_directory(directory: Path) -> None:
    """Create the directory, mode 0700, or check that the existing one may be trusted.

    Raises:
        RefusedError: it is a symlink, another user's, or writable by others.
        OSError: it can't be created.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    check_directory(directory, {os.geteuid()})


def share_directory(directory: Path, group: int) -> None:
    """Let this group read our directory.

    Raises:
        RefusedError: the directory may not be trusted.
        OSError: we aren't a member of the group.
    """
    descriptor = open_directory(directory, {os.geteuid()})
    try:
        os.fchown(descriptor, -1, group)
        os.fchmod(descriptor, stat.S_IMODE(os.fstat(descriptor).st_mode) | stat.S_IRGRP | stat.S_IXGRP)
    finally:
        os.close(descriptor)


def check_directory(directory: Path, owners: set[int] | None, *, accept_shared: bool = False) -> int:
    """The uid of the directory's owner, if it may be trusted; arguments and errors are those of `open_directory`."""
    descriptor = open_directory(directory, owners, accept_shared=accept_shared)
    try:
        return os.fstat(descriptor).st_uid
    finally:
        os.close(descriptor)


def open_directory(directory: Path, owners: set[int] | None, *, accept_shared: bool = False) -> int:
    """A descriptor of the directory, if it may be trusted.

    Args:
        directory: the directory.
        owners: the uids that may own it; None accepts any owner (root's viewer).
        accept_shared: whether another owner's is accepted if its group may read it and is one of ours (a viewer).

    Raises:
        RefusedError: it is a symlink, not a directory, of another owner, or writable by others.
        FileNotFoundError: it doesn't exist.
        OSError: it can't be opened.
    """
    try:
        descriptor = _open_steps(directory)
    except OSError:
        if root_of_container(directory) is not None:
            raise
        _check_directory_status(directory, os.stat(directory, follow_symlinks=False), owners, accept_shared)
        raise
    try:
        _check_directory_status(directory, os.fstat(descriptor), owners, accept_shared)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def root_of_container(directory: Path) -> Path | None:
    """`/proc/<pid>/root` of a path that is below one, else None."""
    parts = directory.parts
    is_there = len(parts) > 4 and parts[:2] == ("/", "proc") and parts[2].isdecimal() and parts[3] == "root"
    return Path(*parts[:4]) if is_there else None


def _open_steps(directory: Path) -> int:
    """A descriptor of the directory, which is no symlink; in a container, no directory on the way to it is one either."""
    root = root_of_container(directory)
    if root is None:
        return os.open(directory, _DIRECTORY_FLAGS)
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # the kernel's own link
    for name in directory.relative_to(root).parts:
        above = descriptor
        try:
            if name == os.pardir:
                raise RefusedError(f"{directory} leads out of the container")
            descriptor = os.open(name, _STEP_FLAGS, dir_fd=above)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise RefusedError(
                    f"{directory}: {name} is a symlink, or no directory; neither is followed into a container"
                ) from error
            raise
        finally:
            os.close(above)
    return descriptor


def _check_directory_status(directory: Path, status: os.stat_result, owners: set[int] | None, accept_shared: bool) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise RefusedError(f"{directory} is a symlink; name the directory itself, or set GPUMODELS_DIR")
    if not stat.S_ISDIR(status.st_mode):
        raise RefusedError(f"{directory} is not a directory; remove it, or set GPUMODELS_DIR")
    if owners is not None and status.st_uid not in owners and not (accept_shared and _is_shared_with_us(status)):
        below = f", as {directory}/files" if status.st_mode & stat.S_IWOTH else ""
        raise RefusedError(
            f"{directory} belongs to uid {status.st_uid}, not to us; set GPUMODELS_DIR to a directory of yours{below}"
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise RefusedError(
            f"{directory} can be written by others (mode {status.st_mode & 0o7777:04o}); run: chmod 700 {directory}"
        )


def _is_shared_with_us(status: os.stat_result) -> bool:
    readable = stat.S_IRGRP | stat.S_IXGRP
    return status.st_mode & readable == readable and status.st_gid in {os.getegid(), *os.getgroups()}


def write_new(directory: Path, name: str, content: bytes, owners: set[int] | None, group: int | None = None) -> None:
    """Create a small file in one step; one of this name is replaced.

    Args:
        directory: of snapshot files.
        name: the file's.
        content: all of it.
        owners: the uids that may own the directory; None for root's viewer.
        group: the gid that may read the file; by default only its owner may.

    Raises:
        OSError: it couldn't be written; then nothing is left of it.
    """
    parent = open_directory(directory, owners)
    temporary = f"{TEMPORARY_PREFIX}{os.urandom(8).hex()}"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=parent)
        try:
            if group is not None:
                os.fchown(descriptor, -1, group)
                os.fchmod(descriptor, 0o640)
            if os.write(descriptor, content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=parent)
            raise
        finally:
            os.close(descriptor)
    finally:
        os.close(parent)


def snapshot_files(directory: Path | int) -> list[str]:
    """Sorted names of the snapshot files in a directory, given by path or descriptor; `open_file` checks each of them."""
    return sorted(name for name in os.listdir(directory) if name.endswith(FILE_SUFFIX) and not name.startswith("."))


def open_file(path: Path, owner: int) -> int:
    """A descriptor for reading, if the file may be trusted: a regular file with a single name that belongs to `owner`.

    Other kinds of files aren't even opened, as opening a device may have effects. Opening never blocks.

    Args:
        path: the file.
        owner: the uid that its directory belongs to.

    Raises:
        RefusedError: it may not be trusted.
        OSError: it can't be opened.
    """
    directory = _open_parent(path)
    try:
        _check_file_status(os.stat(path.name, dir_fd=directory, follow_symlinks=False), owner)
        descriptor = os.open(path.name, _FILE_FLAGS, dir_fd=directory)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise RefusedError("is a symlink") from error
        raise
    finally:
        os.close(directory)
    try:
        _check_file_status(os.fstat(descriptor), owner)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _open_parent(path: Path) -> int:
    try:
        return _open_steps(path.parent)
    except OSError as error:
        if path.parent.is_symlink():
            raise RefusedError(f"is in {path.parent}, a symlink") from error
        raise


def _check_file_status(status: os.stat_result, owner: int) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise RefusedError("is a symlink")
    if not stat.S_ISREG(status.st_mode):
        raise RefusedError("is not a regular file")
    if status.st_nlink > 1:
        raise RefusedError("has a second name (a hard link)")
    if status.st_uid != owner:
        raise RefusedError(f"belongs to uid {status.st_uid}, its directory to uid {owner}")
