"""Writes snapshots to a mapped file: one writer per process, owned by the sidecar's thread. The layout is `layout`'s."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
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
from gpumodels_shared.places import FILE_SUFFIX, TEMPORARY_PREFIX, open_directory

SMALLEST_SLOT_BYTES: Final = 64 * 1024

_never_closed: list[mmap.mmap] = []
"""Mappings that are kept forever because the host closed their descriptors: closing them would close whatever has these numbers
now."""


class _OpenFile:
    """A mapped file, which knows whether its descriptor still refers to it."""

    def __init__(self, descriptor: int, mapping: mmap.mmap, header: Header) -> None:
        self.descriptor = descriptor
        self.mapping = mapping
        self.header = header
        status = os.fstat(descriptor)
        self._inode = (status.st_dev, status.st_ino)

    def status(self) -> os.stat_result:
        """The file's status.

        Raises:
            OSError: the host closed our descriptor, as daemons do that close every descriptor that they don't know.
        """
        status = os.fstat(self.descriptor)
        if not self.has_status(status):
            raise OSError(errno.EBADF, "our descriptor was closed by other code")
        return status

    def has_status(self, status: os.stat_result) -> bool:
        """Whether the status is that of this file, by device and inode."""
        return (status.st_dev, status.st_ino) == self._inode

    def close(self) -> None:
        """Close mapping and descriptor, unless the descriptor number refers to another file by now."""
        try:
            self.status()
        except OSError:
            _never_closed.append(self.mapping)
            return
        self.mapping.close()
        os.close(self.descriptor)


class SnapshotWriter:
    """Publishes payloads into `<pid>-<start ticks>-<8 hex>.gpm`. Not thread-safe; every method may raise OSError.

    After an error the file is unchanged, and the call may be repeated, or the writer closed and replaced.
    """

    def __init__(self, directory: Path, identity: ProcessIdentity, heartbeat_ms: int, group: int | None = None) -> None:
        """Create the file.

        Args:
            directory: where to create it.
            identity: of this process.
            heartbeat_ms: the interval at which `beat` will be called.
            group: the gid that may read the file; by default only its owner may.
        """
        self.path = directory / f"{identity.pid}-{identity.start_ticks}-{os.urandom(4).hex()}{FILE_SUFFIX}"
        self._identity = identity
        self._heartbeat_ms = heartbeat_ms
        self._group = group
        self._created_in_pid = os.getpid()
        self._beat = 0
        self._seq = 0
        self.dropped = 0
        """How many snapshots could not be written; set by the caller, and written with the heartbeat."""
        self.last_errno = 0
        """Why the newest snapshot could not be written, or 0; set by the caller, and written with the heartbeat."""
        self._file: _OpenFile | None = self._create(SMALLEST_SLOT_BYTES)

    def publish(self, payload: bytes) -> None:
        """Make this payload the newest snapshot; if it doesn't fit into a slot, in a larger file that replaces this one."""
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise OSError(errno.EMSGSIZE, f"a snapshot of {len(payload)} bytes is over the limit of {MAX_PAYLOAD_BYTES}")
        file = self._writable_file()
        if len(payload) > file.header.payload_capacity:
            self._grow(file, payload)
        else:
            _write_slot(file.mapping, file.header, self._seq + 1, payload)
            self._seq += 1
        self.beat()

    def beat(self, state: WriterState = WriterState.RUNNING) -> None:
        """Write a heartbeat, by which readers see that the writer is alive."""
        file = self._writable_file()
        self._beat += 1
        self._write_heartbeat(file.mapping, self._seq, state)

    def close(self, state: WriterState = WriterState.EXITED) -> None:
        """Write the final state, unlock the file and close it; it stays readable. May be called more than once."""
        if self._file is None or os.getpid() != self._created_in_pid:
            self.abandon()
            return
        try:
            self.beat(state)
            # Explicitly, as a child forked from C code shares the lock and would keep it after this process closes the file.
            fcntl.flock(self._file.descriptor, fcntl.LOCK_UN)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close the file without writing or unlocking, as a forked child does with its parent's. May be called more than once."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def discard(self) -> None:
        """Close a file that was damaged (truncated, or its lock lost), and remove it if the path still leads to it.

        Raises:
            OSError: it can't be removed.
        """
        file = self._file
        self.abandon()
        if file is not None:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                if file.has_status(os.stat(self.path, follow_symlinks=False)):
                    self.path.unlink()

    def still_named(self) -> bool:
        """Whether the path still leads to this file in full length: it, or its directory, may have been removed or truncated.

        Also True if the path can't be checked (the host dropped its privileges, or the disk fails), as that proves nothing.
        """
        if self._file is None:
            return False
        try:
            status = self._file.status()
        except OSError:
            return False
        if status.st_size < self._file.header.file_bytes:
            return False
        try:
            return self._file.has_status(os.stat(self.path, follow_symlinks=False))
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True

    def _grow(self, old: _OpenFile, payload: bytes) -> None:
        """Replace the file by a larger one with this payload, by a rename: readers of the old one see `superseded` and reopen."""
        slot_bytes = old.header.slot_bytes
        while slot_bytes < len(payload) + SLOT_HEADER_BYTES:
            slot_bytes *= 2
        self._file = self._create(slot_bytes, self._seq + 1, payload)
        self._seq += 1
        self._beat += 1
        self._write_heartbeat(old.mapping, self._seq, WriterState.SUPERSEDED)
        old.close()

    def _create(self, slot_bytes: int, seq: int = 0, payload: bytes = b"") -> _OpenFile:
        """Create a file under a temporary name, lock and fill it, then rename it, so that no reader sees it incomplete."""
        header = Header(
            slot_bytes=slot_bytes,
            heartbeat_ms=self._heartbeat_ms,
            pid=self._identity.pid,
            uid=self._identity.uid,
            start_ticks=self._identity.start_ticks,
            pid_namespace=self._identity.pid_namespace,
            boot_id=self._identity.boot_id,
            instance_id=os.urandom(16),
            created_ns=time.time_ns(),
        )
        temporary = f"{TEMPORARY_PREFIX}{os.urandom(8).hex()}"
        directory = open_directory(self.path.parent, {os.geteuid()})
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(temporary, flags, 0o600, dir_fd=directory)
            mapping: mmap.mmap | None = None
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._group is not None:
                    os.fchown(descriptor, -1, self._group)
                os.fchmod(descriptor, 0o600 if self._group is None else 0o640)  # whatever the umask is
                _allocate(descriptor, header.file_bytes)
                mapping = mmap.mmap(descriptor, header.file_bytes)
                packed = pack_header(header)
                mapping[: len(packed)] = packed
                if seq:
                    _write_slot(mapping, header, seq, payload)
                self._beat += 1
                self._write_heartbeat(mapping, seq, WriterState.RUNNING if seq else WriterState.STARTING)
                file = _OpenFile(descriptor, mapping, header)
                os.rename(temporary, self.path.name, src_dir_fd=directory, dst_dir_fd=directory)
            except BaseException:
                if mapping is not None:
                    mapping.close()
                os.close(descriptor)
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=directory)
                raise
        finally:
            os.close(directory)
        return file

    def _writable_file(self) -> _OpenFile:
        """The file, after checking that it may be written to.

        A forked child must not write, and nobody may write past the end of a truncated file: the SIGBUS would kill the host. Only
        our own user could truncate it in the microseconds between this check and the write, and could as well kill the host.
        """
        if os.getpid() != self._created_in_pid:
            raise OSError(errno.EPERM, "belongs to the process that this one was forked from", str(self.path))
        if self._file is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF), str(self.path))
        if self._file.status().st_size < self._file.header.file_bytes:
            raise OSError(errno.ESTALE, "truncated by somebody else", str(self.path))
        return self._file

    def _write_heartbeat(self, mapping: mmap.mmap, seq: int, state: WriterState) -> None:
        packed = pack_heartbeat(Heartbeat(self._beat, time.time_ns(), state, self.last_errno, self.dropped, seq))
        mapping[HEARTBEAT_OFFSET : HEARTBEAT_OFFSET + HEARTBEAT_BYTES] = packed


def _write_slot(mapping: mmap.mmap, header: Header, seq: int, payload: bytes) -> None:
    """Write the payload first and its header after it: a reader that sees the new header sees the complete payload."""
    offset = header.slot_offset(seq)
    start = offset + SLOT_HEADER_BYTES
    mapping[start : start + len(payload)] = payload
    slot = SlotHeader(seq, len(payload), time.time_ns(), payload_crc(payload))
    mapping[offset : offset + SLOT_HEADER_BYTES] = pack_slot_header(slot)


def _allocate(descriptor: int, length: int) -> None:
    """Allocate all of the file's blocks now: a full disk is then an error here, not a SIGBUS at a later write."""
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
    while written < length:  # the last write for which the disk has room may be short
        written += os.pwrite(descriptor, zeros[: length - written], written)
