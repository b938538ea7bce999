"""Writes snapshots into the mapped file, through full disks and removed directories, without ever troubling the host."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from gpumodels.publishing.packing import SnapshotPacker
from gpumodels.support.failures import LOGGER, Failures
from gpumodels.support.never_pickled import never_pickled
from gpumodels_shared.cleaning import clean_dead_files, clean_own_predecessors
from gpumodels_shared.identity import ProcessIdentity
from gpumodels_shared.oom_records import encode_record, record_name, write_record
from gpumodels_shared.places import chosen_group, default_directory, ensure_directory, share_directory
from gpumodels_shared.schema import OutOfMemory, ProcessInfo, Snapshot
from gpumodels_shared.writer import SnapshotWriter

MAX_OWN_RECORDS: Final = 8
"""Of failed allocations, by one process: more would take the room of other processes' records."""


@never_pickled
class Publisher:
    """Owns the writer. If the file can't be made, or was removed, it tries again at every tick."""

    def __init__(
        self, directory: Path, identity: ProcessIdentity, heartbeat_ms: int, failures: Failures, pause: Callable[[], None]
    ) -> None:
        self._directory = directory
        self._follows_user = directory == default_directory()
        self._identity = identity
        self._heartbeat_ms = heartbeat_ms
        self._failures = failures
        self._packer = SnapshotPacker(pause)
        self._writer: SnapshotWriter | None = None
        self.published: Snapshot | None = None
        """The snapshot that readers can see now."""
        self._records: list[Path] = []
        """The records of failed allocations that this process wrote, oldest first."""
        self._dropped = 0
        self._has_warned = False
        self._has_warned_of_group = False
        self._cleaned = False

    @property
    def file(self) -> Path | None:
        """The snapshot file; None if there is none at the moment."""
        return self._writer.path if self._writer is not None else None

    def publish(self, snapshot: Snapshot) -> None:
        """Write the snapshot if it says anything new, else only the heartbeat."""
        try:
            writer = self._current_writer()
            writer.dropped, writer.last_errno = self._dropped, 0
            if self.published is not None and _say_the_same(snapshot, self.published):
                writer.beat()
            else:
                of_user = snapshot.process.uid == self._identity.uid
                current = snapshot if of_user else replace(snapshot, process=replace(snapshot.process, uid=self._identity.uid))
                writer.publish(self._packer.pack(current))
                self.published = snapshot
        except OSError as error:
            self._dropped += 1
            self._report_in_heartbeat(error)
            self._warn_once(error)
        else:
            if self._has_warned:
                LOGGER.info("publishing in %s again", self._directory)
            self._has_warned = False

    def keep_record(self, process: ProcessInfo, failure: OutOfMemory) -> str | None:
        """Write the record of a failed allocation beside the snapshot file; its path, or None if that failed."""
        name = record_name(failure.at_ns, self._identity.pid)
        try:
            ensure_directory(self._directory)
            path = write_record(self._directory, name, encode_record(process, failure), self._shared_with(self._directory))
        except OSError as error:
            LOGGER.warning("cannot keep %s in %s: %s", name, self._directory, error.strerror or error)
            return None
        if path not in self._records:
            self._records.append(path)
        for old in self._records[:-MAX_OWN_RECORDS]:
            with suppress(OSError):
                old.unlink()
        del self._records[:-MAX_OWN_RECORDS]
        return str(path)

    def beat(self) -> None:
        """Write the heartbeat only."""
        if self._writer is not None:
            try:
                self._writer.beat()
            except OSError as error:
                self._warn_once(error)

    def close(self) -> None:
        """Mark the file as exited. It stays, and readers can read it."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with self._failures.guard("closing the snapshot file"):
                writer.close()

    def abandon(self) -> None:
        """Close the parent's file in a forked child, without writing to it."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with self._failures.guard("leaving the parent's snapshot file"):
                writer.abandon()

    def _current_writer(self) -> SnapshotWriter:
        """The writer, replaced if its file has lost its name; the old one stays until the new one could be made."""
        if self._user_changed():
            return self._move_to_new_user()
        if self._writer is not None and self._writer.still_named():
            return self._writer
        writer = self._new_writer(self._directory, self._identity)
        if self._writer is not None:
            LOGGER.info("%s was removed or damaged; %s replaces it", self._writer.path, writer.path)
            with self._failures.guard("removing a damaged snapshot file"):
                self._writer.discard()
        self._writer = writer
        return writer

    def _user_changed(self) -> bool:
        """Whether the host dropped its user for good, as servers do. If only the effective uid differs, that is for a moment."""
        uid = os.geteuid()
        if uid == self._identity.uid or uid != os.getuid():
            return False
        return self._follows_user and default_directory() != self._directory

    def _move_to_new_user(self) -> SnapshotWriter:
        """Publish among the new user's files. The old file is marked as exited, as we can't remove it any more."""
        directory = default_directory()
        identity = self._identity._replace(uid=os.geteuid())
        writer = self._new_writer(directory, identity)
        LOGGER.info("this process is uid %d now: publishing in %s", identity.uid, directory)
        self.close()
        self._writer, self._directory, self._identity = writer, directory, identity
        return writer

    def _new_writer(self, directory: Path, identity: ProcessIdentity) -> SnapshotWriter:
        ensure_directory(directory)
        writer = SnapshotWriter(directory, identity, self._heartbeat_ms, self._shared_with(directory))
        self.published = None
        with self._failures.guard("cleaning up after dead processes"):
            self._clean(directory, identity, writer.path)
        return writer

    def _clean(self, directory: Path, identity: ProcessIdentity, own: Path) -> None:
        try:
            clean_own_predecessors(directory, identity, own)
            if not self._cleaned:
                clean_dead_files(directory)
                self._cleaned = True
        except OSError as error:  # publishing meets this error, too; cleaning is tried again with the next new file
            LOGGER.info("cannot clean up in %s: %s", directory, error.strerror or error)

    def _shared_with(self, directory: Path) -> int | None:
        """The group that may read the file, if one was chosen and can be given access."""
        try:
            group = chosen_group()
            if group is not None:
                share_directory(directory, group)
        except OSError as error:
            self._warn_of_group_once(error)
            return None
        return group

    def _report_in_heartbeat(self, error: OSError) -> None:
        """Write the count of dropped snapshots and the errno into the heartbeat, if there still is a file."""
        if self._writer is not None:
            self._writer.dropped, self._writer.last_errno = self._dropped, error.errno or errno.EIO
            with suppress(OSError):  # the caller logs what is wrong with the file
                self._writer.beat()

    def _warn_once(self, error: OSError) -> None:
        """Log one warning for each trouble, however long it lasts."""
        if not self._has_warned:
            self._has_warned = True
            LOGGER.warning("cannot publish in %s: %s; will keep trying", self._directory, error.strerror or error)

    def _warn_of_group_once(self, error: OSError) -> None:
        if not self._has_warned_of_group:
            self._has_warned_of_group = True
            LOGGER.warning("cannot let the group read %s: %s", self._directory, error.strerror or error)


def _say_the_same(one: Snapshot, other: Snapshot) -> bool:
    same_time = replace(one, taken_at_ns=other.taken_at_ns, health=other.health)
    return same_time == other
