"""Getting snapshots into the mapped file, through full disks and removed directories, without ever troubling the host."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from gpumodels.publishing.packing import SnapshotPacker
from gpumodels.support.failures import LOGGER, Failures
from gpumodels.support.resident import resident
from gpumodels_shared.cleaning import clean_dead_files, clean_own_predecessors
from gpumodels_shared.identity import ProcessIdentity
from gpumodels_shared.places import chosen_group, default_directory, ensure_directory, share_directory
from gpumodels_shared.schema import Snapshot
from gpumodels_shared.writer import SnapshotWriter


@resident
class Publisher:
    """Owns the writer. A file that can't be made, or was taken away, is tried again at every tick."""

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
        """What readers can see now."""
        self._dropped = 0
        self._complained = False
        self._complained_of_group = False
        self._cleaned = False

    def publish(self, snapshot: Snapshot) -> None:
        """Write the snapshot if it says anything new; show that we live in any case."""
        try:
            writer = self._writer_in_place()
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
            self._show_trouble(error)
            self._complain(error)
        else:
            if self._complained:
                LOGGER.info("publishing in %s again", self._directory)
            self._complained = False

    def beat(self) -> None:
        """Only show that we live."""
        if self._writer is not None:
            try:
                self._writer.beat()
            except OSError as error:
                self._complain(error)

    def close(self) -> None:
        """Say goodbye; the file stays, readable."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with self._failures.guard("closing the snapshot file"):
                writer.close()

    def abandon(self) -> None:
        """Let go of the file without touching it: a forked child's part."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with self._failures.guard("leaving the parent's snapshot file"):
                writer.abandon()

    def _writer_in_place(self) -> SnapshotWriter:
        """The writer of a file that has its name, made anew where it must be; until that succeeds the old one stays."""
        if self._user_changed():
            return self._move_to_new_user()
        if self._writer is not None and self._writer.still_named():
            return self._writer
        writer = self._new_writer(self._directory, self._identity)
        if self._writer is not None:
            LOGGER.info("%s was removed or spoilt; %s takes its place", self._writer.path, writer.path)
            with self._failures.guard("removing a spoilt snapshot file"):
                self._writer.discard()
        self._writer = writer
        return writer

    def _user_changed(self) -> bool:
        """Whether the host gave up its user for good, as servers do; not for a moment, where only the effective uid differs."""
        uid = os.geteuid()
        if uid == self._identity.uid or uid != os.getuid():
            return False
        return self._follows_user and default_directory() != self._directory

    def _move_to_new_user(self) -> SnapshotWriter:
        """A file among the new user's; the old one says goodbye, as we can't remove it any more."""
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
        except OSError as error:  # the trouble that publishing is in, or was in just now; the next file is another occasion
            LOGGER.info("cannot clean up in %s: %s", directory, error.strerror or error)

    def _shared_with(self, directory: Path) -> int | None:
        """The group that may read the file, if one was asked for and can be given it."""
        try:
            group = chosen_group()
            if group is not None:
                share_directory(directory, group)
        except OSError as error:
            self._complain_of_group(error)
            return None
        return group

    def _show_trouble(self, error: OSError) -> None:
        """Readers see the count and the errno in the heartbeat, where there still is one to write."""
        if self._writer is not None:
            self._writer.dropped, self._writer.last_errno = self._dropped, error.errno or errno.EIO
            with suppress(OSError):  # what is wrong with it, is what we are about to say
                self._writer.beat()

    def _complain(self, error: OSError) -> None:
        """One warning per trouble, however long it lasts."""
        if not self._complained:
            self._complained = True
            LOGGER.warning("cannot publish in %s: %s; trying on", self._directory, error.strerror or error)

    def _complain_of_group(self, error: OSError) -> None:
        if not self._complained_of_group:
            self._complained_of_group = True
            LOGGER.warning("nobody else can read %s: %s", self._directory, error.strerror or error)


def _say_the_same(one: Snapshot, other: Snapshot) -> bool:
    same_time = replace(one, taken_at_ns=other.taken_at_ns, health=other.health)
    return same_time == other
