"""The path of the file that a storage was just mapped from: the kernel knows the file, the calling code the user's path to it."""

from __future__ import annotations

import io
import mmap
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePath
from types import FrameType
from typing import Any, Final

from gpumodels.support.instances import values_of

MAX_FRAMES: Final = 6
"""How many calling frames are searched for the file's path: `load_file(filename)` is one, a library's helpers are some more."""
BUFFERED_TYPES: Final = frozenset({io.BufferedReader, io.BufferedRandom, io.BufferedWriter})
COMPARED_BYTES: Final = 4096
MAX_NAMES: Final = 200
MAX_PATH: Final = 4096
PLAIN_TYPES: Final = frozenset({str, bytes, bytearray, int, float, bool, type(None)})
PATH_TYPES: Final = frozenset({type(Path()), type(PurePath())})


def path_of_mapped(address: int, size_bytes: int, caller: FrameType | None) -> str | None:
    """The path of the file that a storage is mapped from; None if no file is mapped there.

    It is the caller's own path, symlinks unresolved, if a variable of the caller holds it.

    Args:
        address: where the storage begins.
        size_bytes: the storage's size, equal to the file's.
        caller: the frame that had it mapped.
    """
    if not size_bytes or address % mmap.PAGESIZE:
        return None  # not the beginning of a mapping, so not a file mapped from its start
    mapped = _mapped_file(address, size_bytes)
    if mapped == "":
        return None
    for name in names_in(caller):
        if _is_the_file(name, mapped, size_bytes):
            return os.path.abspath(name)  # noqa: PTH100  # symlinks stay
    return None if mapped is None else _name_in_hub(mapped) or mapped


def _mapped_file(address: int, size_bytes: int) -> str | None:
    """The file that the kernel says is mapped at this address; "" if there is none, None if the kernel can't be asked."""
    end = address + -(-size_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
    try:
        return os.readlink(f"/proc/self/map_files/{address:x}-{end:x}")  # noqa: PTH115
    except FileNotFoundError:
        return "" if os.path.isdir("/proc/self/map_files") else None  # noqa: PTH112
    except OSError:
        return None


def name_of_open(file: Any) -> str | None:
    """The name by which one of Python's own file objects was opened; None for other classes, whose code isn't run."""
    try:
        raw = file.raw if type(file) in BUFFERED_TYPES else file
        name = raw.name if type(raw) is io.FileIO else None
    except (AttributeError, ValueError):  # detached, or never opened
        return None
    return name if type(name) is str else None


def names_held_by(thing: Any) -> list[str]:
    """Names of Python's own files that an object holds open, or an object in it, as those of fsspec and tempfile do.

    Only what they hold is read; no code of theirs is run.
    """
    found: list[str] = []
    reached, seen = [thing], {id(thing)}
    for one in reached:  # grows meanwhile
        if (name := name_of_open(one)) is not None:
            found.append(name)
        held = [_raw_of(one)] if type(one) in BUFFERED_TYPES else [value for _, value in values_of(one)]
        for value in held[:MAX_NAMES]:
            if len(reached) < MAX_NAMES and id(value) not in seen and type(value) not in PLAIN_TYPES:
                seen.add(id(value))
                reached.append(value)
    return [*dict.fromkeys(found)]


def _raw_of(file: Any) -> Any:
    try:
        return file.raw
    except ValueError:  # detached
        return None


def path_of_bytes(data: Any, caller: FrameType | None) -> str | None:
    """The path of the file that these bytes were read from, if a calling frame has the path, or the open file, in a variable.

    Args:
        data: the file's entire content.
        caller: the frame that holds the bytes.
    """
    if type(data) not in (bytes, bytearray):
        return None
    for name in names_in(caller):
        if _begins_and_ends_like(name, data):
            return os.path.abspath(name)  # noqa: PTH100  # symlinks stay
    return None


def _begins_and_ends_like(name: str, data: bytes | bytearray) -> bool:
    """Whether this is a regular file of the same length as the data, with the same beginning and end."""
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


def names_in(frame: FrameType | None) -> Iterator[str]:
    """Possible file names among the variables of the calling frames, nearest first: strings, paths, and names of open files."""
    yield from (name for name in _texts_in(frame) if name and len(name) <= MAX_PATH and "\n" not in name)


def _texts_in(frame: FrameType | None) -> Iterator[str]:
    for _ in range(MAX_FRAMES):
        if frame is None:
            return
        for value in (*[*frame.f_locals.values()][-MAX_NAMES:], *frame.f_code.co_consts[:MAX_NAMES]):
            if type(value) is str:
                yield value
            elif type(value) in PATH_TYPES:
                yield os.fspath(value)
            elif (name := name_of_open(value)) is not None:
                yield name
        frame = frame.f_back


def _is_the_file(name: str, mapped: str | None, size_bytes: int) -> bool:
    """Whether this path leads to the mapped file, or, if that is unknown, to a file of the same size."""
    try:
        status = os.stat(name)
        if mapped is None:
            return status.st_size == size_bytes
        mapped_status = os.stat(mapped)
    except (OSError, ValueError):
        return False
    return (status.st_dev, status.st_ino) == (mapped_status.st_dev, mapped_status.st_ino)


def _name_in_hub(blob: str) -> str | None:
    """The symlink in a Hugging Face repository's snapshot that leads to this blob, whose own name is a checksum."""
    directory, _, _ = blob.rpartition("/")
    if not directory.endswith("/blobs"):
        return None
    for holder, directories, names in os.walk(f"{directory.removesuffix('blobs')}snapshots"):
        del directories[MAX_NAMES:]
        for name in names[:MAX_NAMES]:
            path = f"{holder}/{name}"
            if os.path.realpath(path) == blob:
                return path
    return None
