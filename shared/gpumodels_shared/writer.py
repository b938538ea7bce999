"""The writing end of a mapped file: one per process, held by the sidecar's thread. The bytes are `layout`'s."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import secrets
import time
from pathlib import Path
from typing import Final

from gpumodels_shared.codec import MAX_PAYLOAD_BYTES
from gpumodels_shared.identity import ProcessIdentity
from gpumodels_shared.layout import (
    HEARTBEAT_BYTES,
    HEARTBEAT_OFFSET,
    SLOT_HEADER_BYTES,
    Header,
    Heartbeat,
    SlotHeader,
    WriterState,
    pack_header,
    pack_heartbeat,
    pack_slot_header,
    payload_crc,
)
from gpumodels_shared.places import FILE_SUFFIX, TEMPORARY_PREFIX

SMALLEST_SLOT_BYTES: Final = 64 * 1024


class SnapshotWriter:
    """Publishes payloads into `<pid>-<start ticks>-<8 hex>.gpm`. Not thread-safe; every method may raise OSError.

    After an error the file is as it was; the writer may be tried again, or closed and replaced.
    """

    def __init__(self, directory: Path, identity: ProcessIdentity, heartbeat_ms: int) -> None:
        self.path = directory / f"{identity.pid}-{identity.start_ticks}-{secrets.token_hex(4)}{FILE_SUFFIX}"
        self._identity = identity
        self._heartbeat_ms = heartbeat_ms
        self._made_in = os.getpid()
        self._beat = 0
        self._seq = 0
        self.dropped = 0
        """Snapshots that could not be written; shown to readers by the heartbeat."""
        self.last_errno = 0
        self._header, self._descriptor, self._mapping = self._create(SMALLEST_SLOT_BYTES, self.path)

    def publish(self, payload: bytes) -> None:
        """Make this payload the newest snapshot; a payload that outgrew its slot moves to a larger file of the same name."""
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise OSError(errno.EMSGSIZE, f"a snapshot of {len(payload)} bytes is over the limit of {MAX_PAYLOAD_BYTES}")
        self._check_ours()
        if len(payload) > self._header.payload_capacity:
            self._grow(payload)
        else:
            _write_slot(self._mapping, self._header, self._seq + 1, payload)
            self._seq += 1
        self.beat()

    def beat(self, state: WriterState = WriterState.RUNNING) -> None:
        """Show that the writer lives."""
        self._check_ours()
        self._beat += 1
        self._write_heartbeat(self._mapping, self._seq, state)

    def close(self, state: WriterState = WriterState.EXITED) -> None:
        """Say why and let go: the file stays, readable. After it, the writer is of no use. Twice does no harm."""
        if self._descriptor < 0 or os.getpid() != self._made_in:
            self.abandon()
            return
        try:
            self.beat(state)
            # For all who share it: a child forked from C, unaware of us, must not keep the lock of a file that said goodbye.
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Let go without a word, as a forked child does of its parent's file: the parent's lock stays. Twice does no harm."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            self._mapping.close()
            os.close(descriptor)

    def still_named(self) -> bool:
        """Whether the path still leads to this file, whole: someone may have removed it, or its directory, or truncated it."""
        if self._descriptor < 0:
            return False
        try:
            there = os.stat(self.path, follow_symlinks=False)
        except OSError:
            return False
        here = os.fstat(self._descriptor)
        return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino) and here.st_size >= self._header.file_bytes

    def _grow(self, payload: bytes) -> None:
        """A larger file takes the name in one step: readers of the old one see `superseded` and open it anew."""
        old_mapping, old_descriptor = self._mapping, self._descriptor
        slot_bytes = self._header.slot_bytes
        while slot_bytes < len(payload) + SLOT_HEADER_BYTES:
            slot_bytes *= 2
        self._header, self._descriptor, self._mapping = self._create(slot_bytes, self.path, self._seq + 1, payload)
        self._seq += 1
        self._beat += 1
        self._write_heartbeat(old_mapping, self._seq, WriterState.SUPERSEDED)
        old_mapping.close()
        os.close(old_descriptor)

    def _create(self, slot_bytes: int, path: Path, seq: int = 0, payload: bytes = b"") -> tuple[Header, int, mmap.mmap]:
        """A whole file under a temporary name, locked and filled, then renamed: no reader ever sees half of it."""
        header = Header(
            slot_bytes=slot_bytes,
            heartbeat_ms=self._heartbeat_ms,
            pid=self._identity.pid,
            uid=self._identity.uid,
            start_ticks=self._identity.start_ticks,
            pid_namespace=self._identity.pid_namespace,
            boot_id=self._identity.boot_id,
            instance_id=secrets.token_bytes(16),
            created_ns=time.time_ns(),
        )
        temporary = path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}")
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        mapping: mmap.mmap | None = None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.fchmod(descriptor, 0o600)  # whatever the umask took away
            _allocate(descriptor, header.file_bytes)
            mapping = mmap.mmap(descriptor, header.file_bytes)
            packed = pack_header(header)
            mapping[: len(packed)] = packed
            if seq:
                _write_slot(mapping, header, seq, payload)
            self._beat += 1
            self._write_heartbeat(mapping, seq, WriterState.RUNNING if seq else WriterState.STARTING)
            temporary.rename(path)
        except BaseException:
            if mapping is not None:
                mapping.close()
            os.close(descriptor)
            temporary.unlink(missing_ok=True)
            raise
        return header, descriptor, mapping

    def _check_ours(self) -> None:
        """A forked child must not write, and nobody past the end of a file that was truncated: SIGBUS would end the host."""
        if os.getpid() != self._made_in:
            raise OSError(errno.EPERM, "belongs to the process that this one was forked from", str(self.path))
        if os.fstat(self._descriptor).st_size < self._header.file_bytes:
            raise OSError(errno.ESTALE, "truncated by somebody else", str(self.path))

    def _write_heartbeat(self, mapping: mmap.mmap, seq: int, state: WriterState) -> None:
        packed = pack_heartbeat(Heartbeat(self._beat, time.time_ns(), state, self.last_errno, self.dropped, seq))
        mapping[HEARTBEAT_OFFSET : HEARTBEAT_OFFSET + HEARTBEAT_BYTES] = packed


def _write_slot(mapping: mmap.mmap, header: Header, seq: int, payload: bytes) -> None:
    """Payload first, header after it: a reader who meets the new header meets all that it describes."""
    offset = header.slot_offset(seq)
    start = offset + SLOT_HEADER_BYTES
    mapping[start : start + len(payload)] = payload
    slot = SlotHeader(seq, len(payload), time.time_ns(), payload_crc(payload))
    mapping[offset : offset + SLOT_HEADER_BYTES] = pack_slot_header(slot)


def _allocate(descriptor: int, length: int) -> None:
    """Give the file all its blocks now: on a full disk this is an error here, not a SIGBUS at a later write."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, length)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise
        else:
            return
    zeros = bytes(64 * 1024)
    written = 0
    while written < length:  # the last write that a disk has room for may be a short one
        written += os.pwrite(descriptor, zeros[: length - written], written)
