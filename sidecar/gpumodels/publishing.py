"""Getting snapshots into the mapped file, through full disks and removed directories, without ever troubling the host."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from gpumodels.failures import LOGGER, Failures
from gpumodels.folding import fold_deepest
from gpumodels_shared.cleaning import clean_dead_files
from gpumodels_shared.codec import MAX_PAYLOAD_BYTES, encode
from gpumodels_shared.identity import ProcessIdentity
from gpumodels_shared.places import ensure_directory
from gpumodels_shared.schema import Snapshot
from gpumodels_shared.writer import SnapshotWriter


class Publisher:
    """Owns the writer. A file that can't be made, or was taken away, is tried again at every tick."""

    def __init__(self, directory: Path, identity: ProcessIdentity, heartbeat_ms: int, failures: Failures) -> None:
        self._directory = directory
        self._identity = identity
        self._heartbeat_ms = heartbeat_ms
        self._failures = failures
        self._writer: SnapshotWriter | None = None
        self.published: Snapshot | None = None
        """What readers can see now."""
        self._complained = False
        self._cleaned = False

    def publish(self, snapshot: Snapshot) -> None:
        """Write the snapshot if it says anything new; show that we live in any case."""
        try:
            writer = self._writer_in_place()
            if self.published is not None and _say_the_same(snapshot, self.published):
                writer.beat()
            else:
                writer.publish(_payload(snapshot))
                self.published = snapshot
            self._complained = False
        except OSError as error:
            self._complain(error)

    def beat(self) -> None:
        """Only show that we live."""
        if self._writer is not None:
            self._writer.beat()

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
        if self._writer is not None and self._writer.still_named():
            return self._writer
        if self._writer is not None:
            LOGGER.info("%s was removed; making a new one", self._writer.path)
            self._writer.abandon()
            self._writer = None
        self.published = None
        ensure_directory(self._directory)
        if not self._cleaned:
            self._cleaned = True
            with self._failures.guard("cleaning up after dead processes"):
                clean_dead_files(self._directory)
        self._writer = SnapshotWriter(self._directory, self._identity, self._heartbeat_ms)
        return self._writer

    def _complain(self, error: OSError) -> None:
        """One warning per trouble, however long it lasts; readers see the count and the errno in the heartbeat."""
        if self._writer is not None:
            self._writer.dropped += 1
            self._writer.last_errno = error.errno or 0
            with self._failures.guard("beating"):
                self._writer.beat()
        if not self._complained:
            self._complained = True
            reason = str(error) if error.errno is None else os.strerror(error.errno)
            LOGGER.warning("cannot publish in %s: %s; trying on", self._directory, reason)


def _payload(snapshot: Snapshot) -> bytes:
    """The snapshot's bytes, with the layer trees folded as far as the limit needs."""
    payload = encode(snapshot)
    while len(payload) > MAX_PAYLOAD_BYTES and (smaller := fold_deepest(snapshot)) is not None:
        snapshot = smaller
        payload = encode(snapshot)
    return payload


def _say_the_same(one: Snapshot, other: Snapshot) -> bool:
    same_time = replace(one, taken_at_ns=other.taken_at_ns, health=other.health)
    return same_time == other
