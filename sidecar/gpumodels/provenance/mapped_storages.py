"""Which file a storage shows that was mapped just now: the kernel knows the file, the caller the name that the user gave it."""

from __future__ import annotations

import io
import mmap
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePath
from types import FrameType
from typing import Any, Final

FRAMES: Final = 6
"""How far above the reader the file's name is looked for: `load_file(filename)` is one, a library's own helpers some more."""
BUFFERED: Final = frozenset({io.BufferedReader, io.BufferedRandom, io.BufferedWriter})
COMPARED_BYTES: Final = 4096
MAX_NAMES: Final = 200
MAX_PATH: Final = 4096
PATHS: Final = frozenset({type(Path()), type(PurePath())})


def path_of_mapped(address: int, size_bytes: int, caller: FrameType | None) -> str | None:
    """The file's path; None where the memory shows no file. Symlinks stay, where a caller has the path in a variable.

    Args:
        address: where the storage begins.
        size_bytes: how long it is: all of the file.
        caller: whoever had it mapped.
    """
    if not size_bytes or address % mmap.PAGESIZE:
        return None  # not the beginning of a mapping: nothing that was mapped from a file's start
    shown = _file_shown(address, size_bytes)
    if shown == "":
        return None
    for name in _names_in(caller):
        if _is_the_file(name, shown, size_bytes):
            return os.path.abspath(name)  # noqa: PTH100  # symlinks stay
    return None if shown is None else _name_in_hub(shown) or shown


def _file_shown(address: int, size_bytes: int) -> str | None:
    """What the kernel says of this stretch of memory; "" for none, None where it can't be asked."""
    end = address + -(-size_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
    try:
        return os.readlink(f"/proc/self/map_files/{address:x}-{end:x}")  # noqa: PTH115
    except FileNotFoundError:
        return "" if os.path.isdir("/proc/self/map_files") else None  # noqa: PTH112
    except OSError:
        return None


def name_of_open(file: Any) -> str | None:
    """The name by which one of Python's own files was opened; what somebody's own class behind a buffer says is not asked."""
    try:
        raw = file.raw if type(file) in BUFFERED else file
        name = raw.name if type(raw) is io.FileIO else None
    except (AttributeError, ValueError):  # detached, or never opened
        return None
    return name if type(name) is str else None


def path_of_bytes(data: Any, caller: FrameType | None) -> str | None:
    """The file that these bytes were read from, if a caller has its path, or the open file, in a variable.

    Args:
        data: all of the file.
        caller: whoever has the bytes.
    """
    if type(data) not in (bytes, bytearray):
        return None
    for name in _names_in(caller):
        if name and len(name) <= MAX_PATH and "\n" not in name and _begins_and_ends_like(name, data):
            return os.path.abspath(name)  # noqa: PTH100  # symlinks stay
    return None


def _begins_and_ends_like(name: str, data: bytes | bytearray) -> bool:
    """Whether there is a regular file of that length, with the same beginning and the same end."""
    try:
        status = os.stat(name)
        if not stat.S_ISREG(status.st_mode) or status.st_size != len(data):
            return False
        descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return False
    try:
        starts = (0, max(0, len(data) - COMPARED_BYTES))
        return all(os.pread(descriptor, COMPARED_BYTES, start) == data[start : start + COMPARED_BYTES] for start in starts)
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _names_in(frame: FrameType | None) -> Iterator[str]:
    """What may be a file's name among the callers' variables, the nearest first: strings, paths, and open files' own."""
    for _ in range(FRAMES):
        if frame is None:
            return
        for value in (*[*frame.f_locals.values()][-MAX_NAMES:], *frame.f_code.co_consts[:MAX_NAMES]):
            if type(value) is str:
                yield value
            elif type(value) in PATHS:
                yield os.fspath(value)
            elif (name := name_of_open(value)) is not None:
                yield name
        frame = frame.f_back


def _is_the_file(name: str, shown: str | None, size_bytes: int) -> bool:
    if not name or len(name) > MAX_PATH or "\n" in name:
        return False
    try:
        status = os.stat(name)
        if shown is None:
            return status.st_size == size_bytes
        known = os.stat(shown)
    except (OSError, ValueError):
        return False
    return (status.st_dev, status.st_ino) == (known.st_dev, known.st_ino)


def _name_in_hub(shown: str) -> str | None:
    """The symlink of a Hugging Face repository's snapshot that leads to this blob, whose own name is a checksum."""
    directory, _, _ = shown.rpartition("/")
    if not directory.endswith("/blobs"):
        return None
    for holder, directories, names in os.walk(f"{directory.removesuffix('blobs')}snapshots"):
        del directories[MAX_NAMES:]
        for name in names[:MAX_NAMES]:
            path = f"{holder}/{name}"
            if os.path.realpath(path) == shown:
                return path
    return None
