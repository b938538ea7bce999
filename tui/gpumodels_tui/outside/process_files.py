"""The model files that a process has mapped or open, as /proc tells; a few milliseconds for a large process."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Final

from gpumodels_shared.records import Record
from gpumodels_shared.shards import checkpoint_of
from gpumodels_tui.outside.facts import KnownBy, OutsideModel
from gpumodels_tui.outside.stores import names_in_store

MOST_MAPS_BYTES: Final = 16 * 1024**2
"""Of /proc/<pid>/maps that is read; a process has at most 65,530 mappings unless the machine is set up for more."""
MOST_DESCRIPTORS: Final = 8192
MOST_FILES: Final = 2048
MOST_MODELS: Final = 64
LEAST_BYTES: Final = 1024**2
"""Files of formats that other programs use too (`.bin`, `.pt`) count as models from this size on."""
CHUNK_BYTES: Final = 64 * 1024
DELETED: Final = b" (deleted)"

OF_MODELS: Final = ("safetensors", "sft", "gguf", "ggml")
"""Suffixes that nothing but models has."""
OF_OTHERS_TOO: Final = ("pt", "pth", "ckpt", "bin", "onnx")
_SUFFIX: Final = rf"(?i)\.(?:({'|'.join(OF_MODELS)})|{'|'.join(OF_OTHERS_TOO)})$"
_BLOB: Final = r"/blobs/(?:sha256-)?[0-9a-f]{64}$"
_ENDING: Final = (
    rb"(?im)(?:\.(?:" + "|".join((*OF_MODELS, *OF_OTHERS_TOO)).encode() + rb")|/blobs/(?:sha256-)?[0-9a-f]{64})(?: \(deleted\))?$"
)
_LINE: Final = rb"(?m)^([0-9a-f]{1,16})-([0-9a-f]{1,16}) \S+ [0-9a-f]+ [0-9a-f]+:[0-9a-f]+ (\d+) +(/[^\n]*)$"
"""Like all patterns here it is compiled by `re` at first use, to keep the start of the viewer fast."""


class NotSeenError(Exception):
    """The process's files can't be seen; the text says why, and what to do."""


class _File(Record, frozen=False):
    path: str
    inode: int
    known_by: KnownBy
    mapped_bytes: int = 0
    size: int | None = None
    is_deleted: bool = False
    is_here: bool = False
    names: tuple[str, ...] = ()


def is_model_file(path: str) -> bool:
    """Whether a file of this name is a model's, whatever its size."""
    found = re.search(_SUFFIX, path)
    return (found is not None and found[1] is not None) or re.search(_BLOB, path) is not None


def has_model_suffix(path: str) -> bool:
    """Whether a file of this name may be a model's."""
    return re.search(_SUFFIX, path) is not None or re.search(_BLOB, path) is not None


def as_text(path: str) -> str:
    """The path with an escape for each byte that isn't UTF-8, since not every document may hold such bytes."""
    return path.encode("utf-8", "backslashreplace").decode()


def models_of(pid: int, proc: str = "/proc") -> tuple[OutsideModel, ...]:
    """The models whose files the process has mapped or open for reading, the largest first; shards are one model.

    Raises:
        NotSeenError: the process belongs to somebody else.
        ProcessLookupError: it has ended.
    """
    place = f"{proc}/{pid}"
    root = root_of(pid, proc)
    try:
        files = _mapped(place)
        for file in _opened(place):
            known = files.get((file.path, file.inode))
            if known is None:
                files[file.path, file.inode] = file
            else:
                known.size = file.size
    except PermissionError as error:
        raise NotSeenError(_why(place)) from error
    except (FileNotFoundError, ProcessLookupError) as error:
        raise ProcessLookupError(pid) from error
    seen = [file for file in list(files.values())[:MOST_FILES] if _finish(file, root)]
    groups: dict[tuple[str, KnownBy], list[_File]] = {}
    for file in seen:
        groups.setdefault((checkpoint_of(file.path), file.known_by), []).append(file)
    found = [_model(sorted(group, key=lambda file: file.path)) for group in groups.values()]
    return tuple(sorted(found, key=lambda model: (-model.mapped_bytes, -(model.file_bytes or 0), model.files)))[:MOST_MODELS]


def root_of(pid: int, proc: str = "/proc") -> str | None:
    """What is to be put before the paths in its `maps`: nothing if these are ours, too; None if that isn't known.

    The kernel tells them within the process's mount namespace, which in a container is another one.
    """
    if shares_root(pid, proc) or _are_same(f"{proc}/{pid}/ns/mnt", f"{proc}/self/ns/mnt"):
        return ""
    return f"{proc}/{pid}/root" if os.path.isdir(f"{proc}/{pid}/root") else None  # noqa: PTH112  # joined as text everywhere


def shares_root(pid: int, proc: str = "/proc") -> bool:
    """Whether a path that the process is given means the same to us."""
    return _are_same(f"{proc}/{pid}/root", "/")


def _are_same(one: str, other: str) -> bool:
    try:
        first, second = os.stat(one), os.stat(other)
    except OSError:
        return False
    return (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)


def _mapped(place: str) -> dict[tuple[str, int], _File]:
    files: dict[tuple[str, int], _File] = {}
    for begin, end, inode, text in _mappings(f"{place}/maps"):
        is_deleted = text.endswith(DELETED)
        path = os.fsdecode((text.removesuffix(DELETED) if is_deleted else text).replace(b"\\012", b"\n"))
        file = files.setdefault((path, inode), _File(path, inode, KnownBy.MAPPED, is_deleted=is_deleted))
        file.mapped_bytes += end - begin
        if is_deleted and file.size is None:
            with contextlib.suppress(OSError):  # only root may ask for it
                file.size = os.stat(f"{place}/map_files/{begin:x}-{end:x}").st_size
    return files


def _mappings(path: str) -> Iterator[tuple[int, int, int, bytes]]:
    """(first address, end, inode, path) of each mapping of what may be a model's file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        rest, left = b"", MOST_MAPS_BYTES
        while left > 0 and (chunk := os.read(descriptor, CHUNK_BYTES)):
            left -= len(chunk)
            lines, newline, tail = (rest + chunk).rpartition(b"\n")
            rest = tail if newline else rest + chunk
            if re.search(_ENDING, lines) is None:
                continue
            for found in re.finditer(_LINE, lines):
                if re.search(_ENDING, found[4]) is not None:
                    yield int(found[1], 16), int(found[2], 16), int(found[3]), found[4]
    finally:
        os.close(descriptor)


def _opened(place: str) -> Iterator[_File]:
    """The files that may be models' and are open for reading only: what is being written isn't loaded."""
    with os.scandir(f"{place}/fd") as listed:
        for _, entry in zip(range(MOST_DESCRIPTORS), listed, strict=False):
            try:
                text = os.readlink(os.fsencode(entry.path))  # noqa: PTH115  # as bytes, of thousands
                if not text.startswith(b"/") or re.search(_ENDING, text) is None or not _is_read_only(place, entry.name):
                    continue
                status = os.stat(entry.path)
            except OSError:
                continue  # closed since
            if stat.S_ISREG(status.st_mode):
                is_deleted = text.endswith(DELETED) and not status.st_nlink
                path = os.fsdecode(text.removesuffix(DELETED) if is_deleted else text)
                yield _File(path, status.st_ino, KnownBy.OPEN, size=status.st_size, is_deleted=is_deleted)


def _is_read_only(place: str, number: str) -> bool:
    with open(f"{place}/fdinfo/{number}", "rb") as file:
        found = re.search(rb"^flags:\s*([0-7]+)", file.read(4096), re.MULTILINE)
    return found is not None and int(found[1], 8) & os.O_ACCMODE == os.O_RDONLY


def _finish(file: _File, root: str | None) -> bool:
    """Complete what is known of the file; whether it is a model's."""
    if root is not None and not file.is_deleted:
        with contextlib.suppress(OSError, ValueError):
            status = os.stat(root + file.path)
            if status.st_ino == file.inode and stat.S_ISREG(status.st_mode):
                file.size = status.st_size
                file.is_here = not root
    if re.search(_BLOB, file.path):
        stored = names_in_store(file.path, root)
        if stored.path is not None:
            file.path = stored.path
        elif not stored.names and not file.path.rpartition("/")[2].startswith("sha256-"):
            return False  # a tokenizer may lie there, too
        file.names = stored.names
    if is_model_file(file.path):
        return True
    return has_model_suffix(file.path) and max(file.mapped_bytes, file.size or 0) >= LEAST_BYTES


def _model(files: Sequence[_File]) -> OutsideModel:
    sizes = [file.size for file in files]
    return OutsideModel(
        files[0].known_by,
        tuple(as_text(file.path) for file in files),
        tuple(map(as_text, files[0].names)),
        file_bytes=None if None in sizes else sum(size or 0 for size in sizes),
        mapped_bytes=sum(file.mapped_bytes for file in files),
        is_deleted=any(file.is_deleted for file in files),
        is_here=all(file.is_here and as_text(file.path) == file.path for file in files),
    )


def _why(place: str) -> str:
    """Why its files can't be seen, by whose process it is."""
    try:
        with open(f"{place}/status", "rb") as status:
            found = re.search(rb"^Uid:\s*(\d+)", status.read(8192), re.MULTILINE)
    except OSError:
        found = None
    if found is not None and int(found[1]) == os.geteuid():
        return f"the kernel shows the files of {PurePosixPath(place).name} to root only: run as root"
    return "owned by another user: run as root or that user"
