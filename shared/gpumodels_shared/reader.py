"""Reads snapshots from a mapped file, as private copies by pread that are checked before use. The layout is `layout`'s."""

from __future__ import annotations

import fcntl
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gpumodels_shared.codec import MAX_PAYLOAD_BYTES
from gpumodels_shared.layout import (
    ENCODING_MSGPACK,
    HEADER_BYTES,
    HEARTBEAT_BYTES,
    HEARTBEAT_OFFSET,
    SLOT_HEADER_BYTES,
    Header,
    Heartbeat,
    LayoutError,
    SlotHeader,
    parse_header,
    parse_heartbeat,
    parse_slot_header,
)
from gpumodels_shared.places import open_file
from gpumodels_shared.records import Record

MAX_TRIES: Final = 5


def is_locked(descriptor: int) -> bool:
    """Whether a writer holds the lock of this open file; the check leaves the file unlocked."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


class TornError(LayoutError):
    """No complete snapshot could be read this time; the one read before remains valid."""


class Payload(Record):
    """The encoded bytes of a complete snapshot."""

    seq: int
    realtime_ns: int
    data: bytes


class SnapshotReader:
    """An open snapshot file. It isn't mapped, so a truncated, replaced or removed file is an error here, never a crash.

    Raises (from the constructor):
        LayoutError, RefusedError, OSError: with the reason in one line.
    """

    def __init__(self, path: Path, owner: int, crc32: Callable[[bytes], int] = zlib.crc32) -> None:
        """Open the file.

        Args:
            path: the file.
            owner: the uid that its directory belongs to.
            crc32: zlib's, or a faster implementation: most of the time of a read is spent in it.
        """
        self.path = path
        self._crc32 = crc32
        self._newest_seq = 0
        self._heartbeat: tuple[bytes, Heartbeat] | None = None
        self._descriptor = open_file(path, owner)
        try:
            self.header: Header = parse_header(os.pread(self._descriptor, HEADER_BYTES, 0))
            status = os.fstat(self._descriptor)
            self.inode = status.st_ino
            length = status.st_size
            if length < self.header.file_bytes:
                raise LayoutError(f"truncated: {length} bytes of {self.header.file_bytes}")
        except BaseException:
            os.close(self._descriptor)
            raise

    def close(self) -> None:
        """Close the file; may be called more than once."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def heartbeat(self) -> Heartbeat:
        """The writer's newest heartbeat; the same object until there is a newer one.

        Raises:
            LayoutError: no complete one could be read in MAX_TRIES attempts.
            OSError: the file can't be read any more.
        """
        for _ in range(MAX_TRIES):
            data = os.pread(self._descriptor, HEARTBEAT_BYTES, HEARTBEAT_OFFSET)
            if self._heartbeat is not None and data == self._heartbeat[0]:
                return self._heartbeat[1]
            try:
                self._heartbeat = data, parse_heartbeat(data)
            except LayoutError as error:
                reason = error
            else:
                return self._heartbeat[1]
        raise reason

    def latest(self) -> Payload | None:
        """The newest complete snapshot, never an older one than the previous call returned; None if none was published yet.

        Raises:
            TornError: no complete snapshot could be read in MAX_TRIES attempts, or the newest was damaged after it was read.
            OSError: the file can't be read any more.
        """
        reason = "no complete snapshot"
        for _ in range(MAX_TRIES):
            slots = [self._slot_header(0), self._slot_header(1)]
            if slots == [None, None] and not self._newest_seq:
                return None
            reason = next((slot for slot in slots if isinstance(slot, str)), reason)
            present = [slot for slot in slots if isinstance(slot, SlotHeader) and slot.seq >= self._newest_seq]
            for slot in sorted(present, key=lambda slot: slot.seq, reverse=True):
                found = self._payload(slot)
                if isinstance(found, Payload):
                    self._newest_seq = found.seq
                    return found
                reason = found
        raise TornError(reason)

    def is_locked(self) -> bool:
        """Whether the writer, or a process that inherited its descriptor, still holds the file's lock."""
        return is_locked(self._descriptor)

    def still_named(self) -> bool:
        """Whether the path still leads to this file."""
        try:
            at_path = os.stat(self.path, follow_symlinks=False)
        except OSError:
            return False
        opened = os.fstat(self._descriptor)
        return (at_path.st_dev, at_path.st_ino) == (opened.st_dev, opened.st_ino)

    def _slot_header(self, index: int) -> SlotHeader | str | None:
        """A slot's header; None if it was never written; a text saying what is wrong if it is invalid."""
        data = os.pread(self._descriptor, SLOT_HEADER_BYTES, self.header.slot_offset(index))
        if len(data) < SLOT_HEADER_BYTES:
            return "truncated since it was opened"
        if data == bytes(SLOT_HEADER_BYTES):
            return None
        try:
            slot = parse_slot_header(data)
        except LayoutError as error:
            return str(error)
        if slot.seq & 1 != index:
            return "a snapshot in the wrong slot"
        return slot

    def _payload(self, slot: SlotHeader) -> Payload | str:
        """The snapshot that this header describes, or a text saying what is wrong with it."""
        if slot.encoding != ENCODING_MSGPACK:
            return f"unknown encoding {slot.encoding}"
        if slot.length > min(self.header.payload_capacity, MAX_PAYLOAD_BYTES):
            return f"a payload of {slot.length} bytes is over the limit"
        data = os.pread(self._descriptor, slot.length, self.header.slot_offset(slot.seq) + SLOT_HEADER_BYTES)
        if len(data) < slot.length:
            return "truncated since it was opened"
        if self._crc32(data) != slot.payload_crc:
            return "torn payload (crc)"
        return Payload(slot.seq, slot.realtime_ns, data)
