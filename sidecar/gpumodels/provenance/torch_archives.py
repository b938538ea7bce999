"""Finds the file that tensors were loaded from where `torch.load` was given its bytes, or an object that reads it.

Nothing is asked of that object. Files that may be the one are compared with what was loaded: `torch.save` writes a ZIP archive in
which each storage is a record, uncompressed, so its first values are a few bytes at a known place.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from gpumodels.support.descriptors import OwnDescriptor
from gpumodels.support.never_pickled import never_pickled

MAX_DIRECTORY_BYTES: Final = 8 * 1024 * 1024
MAX_RECORDS: Final = 20_000
MIN_DISTINCT_BYTES: Final = 5
"""Values of fewer distinct bytes, as zeros and ones, are those of many files."""
LEGACY_START: Final = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")
"""How files begin that torch before 1.6 wrote, or was asked to write since: its magic number, pickled."""

_END: Final = struct.Struct("<4s4xHHII2x")
_END_64: Final = struct.Struct("<4s20xQQQQ")
_LOCATOR_64: Final = struct.Struct("<4s4xQ4x")
_ENTRY: Final = struct.Struct("<4s6xH8xIIHHH8xI")
_LOCAL: Final = struct.Struct("<4s22xHH")
_IN_EXTRA: Final = 0xFFFFFFFF


@never_pickled
class LoadedTensor(NamedTuple):
    """What is compared of a tensor that was just loaded."""

    storage_bytes: int
    start: int
    """Where the tensor begins in its storage, in bytes."""
    values: bytes
    """Its first values; empty where they are out of reach."""


@never_pickled
class _Fit(NamedTuple):
    """A file that nothing contradicts."""

    identity: tuple[int, int]
    is_by_values: bool
    """Whether values agree by which files can be told apart."""


def file_with(tensors: Sequence[LoadedTensor], held: Iterable[str], mentioned: Iterable[str]) -> str | None:
    """The path of the one file that these tensors can be from; None where there is none, or several.

    Args:
        tensors: all that was loaded.
        held: names of files that the object which was loaded from holds open: the one must only not contradict what was loaded.
        mentioned: names of files in variables of the calling code: the one must have the same values.
    """
    for names, needs_values in ((held, False), (mentioned, True)):
        found: dict[tuple[int, int], str] = {}
        for name in dict.fromkeys(names):
            fit = _fit(name, tensors)
            if fit is not None and (fit.is_by_values or not needs_values):
                found.setdefault(fit.identity, name)
        if found:
            return os.path.abspath(next(iter(found.values()))) if len(found) == 1 else None  # noqa: PTH100  # symlinks stay
    return None


def _fit(path: str, tensors: Sequence[LoadedTensor]) -> _Fit | None:
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode) or status.st_size < max(tensor.storage_bytes for tensor in tensors):
            return None
        file = OwnDescriptor(path, os.O_RDONLY | os.O_NONBLOCK)
    except (OSError, ValueError):
        return None
    identity = status.st_dev, status.st_ino
    try:
        start = file.read(len(LEGACY_START), 0)
        if start == LEGACY_START:
            return _Fit(identity, is_by_values=False)
        if not start.startswith(b"PK"):
            return None
        agrees = _agree(file, _records(file, status.st_size), tensors)
    except (OSError, OverflowError, struct.error):
        return None  # truncated, or no archive
    finally:
        file.close()
    return None if agrees is None else _Fit(identity, agrees)


def _agree(file: OwnDescriptor, records: Mapping[int, Sequence[int]], tensors: Sequence[LoadedTensor]) -> bool | None:
    """Whether values agree by which files can be told apart; None if a tensor isn't in any of these records."""
    read: dict[tuple[int, int, int], set[bytes]] = {}
    is_by_values = False
    for tensor in tensors:
        offsets = records.get(tensor.storage_bytes)
        if offsets is None:
            return None
        if tensor.values:
            of_same_size = tensor.storage_bytes, tensor.start, len(tensor.values)
            if of_same_size not in read:
                read[of_same_size] = {_data(file, record, tensor) for record in offsets}
            if tensor.values not in read[of_same_size]:
                return None
            is_by_values = is_by_values or len(set(tensor.values)) >= MIN_DISTINCT_BYTES
    return is_by_values


def _data(file: OwnDescriptor, record: int, tensor: LoadedTensor) -> bytes:
    """The bytes at the tensor's beginning in the record whose local header is at this offset."""
    _, name_bytes, extra_bytes = _LOCAL.unpack(file.read(_LOCAL.size, record))
    return file.read(len(tensor.values), record + _LOCAL.size + name_bytes + extra_bytes + tensor.start)


def _records(file: OwnDescriptor, size_bytes: int) -> Mapping[int, list[int]]:
    """The offsets of the local headers of the archive's uncompressed records, by size; empty where it can't be read."""
    signature, _, count, length, offset = _END.unpack(file.read(_END.size, size_bytes - _END.size))
    if signature != b"PK\5\6":
        return {}
    if _IN_EXTRA in (length, offset) or count == 0xFFFF:
        signature, end = _LOCATOR_64.unpack(file.read(_LOCATOR_64.size, size_bytes - _END.size - _LOCATOR_64.size))
        signature_64, _, count, length, offset = _END_64.unpack(file.read(_END_64.size, end))
        if (signature, signature_64) != (b"PK\6\7", b"PK\6\6"):
            return {}
    if length > MAX_DIRECTORY_BYTES or count > MAX_RECORDS:
        return {}
    directory = file.read(length, offset)
    found: dict[int, list[int]] = {}
    at = 0
    for _ in range(count):
        _, method, packed, size, name_bytes, extra_bytes, comment_bytes, record = _ENTRY.unpack_from(directory, at)
        if _IN_EXTRA in (packed, size, record):
            extra = directory[at + _ENTRY.size + name_bytes :][:extra_bytes]
            size, record = _from_extra(extra, (size, packed, record))
        if method == 0:
            found.setdefault(size, []).append(record)
        at += _ENTRY.size + name_bytes + extra_bytes + comment_bytes
    return found


def _from_extra(extra: bytes, fields: tuple[int, int, int]) -> tuple[int, int]:
    """Size and offset of a record whose fields are too small for them: the extra field has those that are, in this order."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            large = iter(struct.unpack_from(f"<{length // 8}Q", extra, at + 4))
            size, _, record = (next(large, 0) if field == _IN_EXTRA else field for field in fields)
            return size, record
        at += 4 + length
    return fields[0], fields[2]
