"""Follows one sidecar's file: its last snapshot, whether its writer is alive, and what is wrong with it, if anything."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from gpumodels_shared.decoding import DecodeError, decode_without_trees
from gpumodels_shared.identity import NO_ID, boot_id, pid_namespace, start_ticks
from gpumodels_shared.layout import Header, Heartbeat, LayoutError, WriterState
from gpumodels_shared.liveness import STALLED_AFTER_BEATS, Liveness, Pulse
from gpumodels_shared.pid_namespaces import pid_from_outside
from gpumodels_shared.reader import SnapshotReader, TornError
from gpumodels_shared.schema import Snapshot
from gpumodels_tui.sources.checksum import crc32

CHECK_SECONDS: Final = 0.5
"""How often a file without heartbeats is checked, and an unreadable one is tried again."""

LATE_BEATS: Final = 1.2
"""A beating writer is alive; after this many beats of silence its lock and its file's name are checked."""

NOT_BEFORE_SECONDS: Final = 0.001
"""How long after the earliest possible stall to check for one."""

LONGEST_UNCHECKED_SECONDS: Final = 2.0
"""The longest time between two checks of the lock: a process that beats once an hour can still die at any moment."""


class TailedFile:
    """Call `refresh` as often as you like; it reads 64 bytes unless something is new. `version` counts changes."""

    def __init__(self, path: Path, owner: int) -> None:
        self.path = path
        self.owner = owner
        self.version = 0
        self.pid = 0
        self.is_local = False
        self.outer_pid: int | None = None
        self.liveness = Liveness.LIVE
        self.late_seconds: float | None = None
        """For how long it has given no sign of life, while it counts as live; None if that is nothing unusual."""
        self.snapshot: Snapshot | None = None
        self.trees: Mapping[str, bytes] = {}
        """The packed layer trees of the snapshot's models, by id."""
        self.snapshot_at_ns: int | None = None
        self.problem: str | None = None
        self._reader: SnapshotReader | None = None
        self._header: Header | None = None
        self._heartbeat: Heartbeat | None = None
        self._pulse = Pulse(1000)
        self._read_seq = 0
        self._check_at = float("-inf")
        self._read_at = float("-inf")

    def refresh(self, now: float) -> None:
        """Read what is new. Never raises because of the file: errors end up in `problem`. `now` is a monotonic time."""
        if self._reader is None and now < self._check_at:
            return
        before = (self.liveness, self.late_seconds, self.snapshot_at_ns, self.problem)
        snapshot_before = self.snapshot
        try:
            self._advance(now)
        except DecodeError as error:
            self.problem = str(error)
        except TornError as error:
            self.problem = str(error)
            self._read_at = now + CHECK_SECONDS
        except (LayoutError, OSError) as error:
            self._give_up(error, now)
        if (
            self.snapshot is not snapshot_before
            or (self.liveness, self.late_seconds, self.snapshot_at_ns, self.problem) != before
        ):
            self.version += 1

    @property
    def has_seen_a_beat(self) -> bool:
        """Whether it gave a sign of life since it is followed; if not, it may have been silent for longer than `late_seconds`."""
        return self._pulse.has_seen_a_beat

    def is_undecided(self, realtime_ns: int) -> bool:
        """Whether waiting a few more beats will tell more: the writer may be alive, but is silent or hasn't published yet."""
        if self._reader is None or self._header is None or self._heartbeat is None or self.liveness is not Liveness.LIVE:
            return False
        if self._heartbeat.last_seq == 0:
            return True
        patience_ns = STALLED_AFTER_BEATS * self._header.heartbeat_ms * 1_000_000
        return abs(realtime_ns - self._heartbeat.realtime_ns) > patience_ns

    def close(self) -> None:
        """Close the file; a later `refresh` opens it again."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _advance(self, now: float) -> None:
        reader = self._reader or self._open()
        heartbeat = reader.heartbeat()
        known = self._heartbeat
        if heartbeat is known and now < self._check_at and heartbeat.last_seq == self._read_seq:
            return
        if known is None or heartbeat.beat != known.beat or now >= self._check_at:
            if known is not None and heartbeat.beat != known.beat and heartbeat.state is WriterState.RUNNING:
                locked = True
                self._check_at = now + min(LATE_BEATS * reader.header.heartbeat_ms / 1000, LONGEST_UNCHECKED_SECONDS)
            else:
                reader, heartbeat, locked = self._check_writer(reader, heartbeat)
                self._check_at = now + min(CHECK_SECONDS, reader.header.heartbeat_ms / 1000)
            self._heartbeat = heartbeat
            self.liveness = self._pulse.observe(heartbeat, locked, now)
            self.late_seconds = self._pulse.late_seconds(now) if self.liveness is Liveness.LIVE else None
            if self.liveness is Liveness.LIVE:
                self._check_at = min(self._check_at, now + self._pulse.seconds_to_stall(now) + NOT_BEFORE_SECONDS)
        if heartbeat.last_seq != self._read_seq and now >= self._read_at:
            self._read(reader, heartbeat)

    def _check_writer(self, reader: SnapshotReader, heartbeat: Heartbeat) -> tuple[SnapshotReader, Heartbeat, bool]:
        """The file that has the name now, its heartbeat, and whether its writer is alive."""
        locked = reader.is_locked()
        if not locked:
            # Between the two reads the writer may have moved to a larger file and released this one.
            heartbeat = reader.heartbeat()
        if heartbeat.state is WriterState.SUPERSEDED or not reader.still_named():
            reader = self._open()
            heartbeat, locked = reader.heartbeat(), reader.is_locked()
        return reader, heartbeat, locked and not self._is_gone()

    def _open(self) -> SnapshotReader:
        self.close()
        reader = SnapshotReader(self.path, self.owner, crc32)
        self._reader, self._header, self._heartbeat = reader, reader.header, None
        self.pid = reader.header.pid
        self.is_local = reader.header.boot_id != NO_ID and (reader.header.boot_id, reader.header.pid_namespace) == _this_machine()
        self.outer_pid = None if self.is_local else pid_from_outside(reader.header, reader.inode)
        self._pulse = Pulse(reader.header.heartbeat_ms)
        self._read_seq = 0
        return reader

    def _read(self, reader: SnapshotReader, heartbeat: Heartbeat) -> None:
        payload = reader.latest()
        self._read_seq = heartbeat.last_seq
        if payload is not None:
            self.snapshot, self.trees = decode_without_trees(payload.data)
            self.snapshot_at_ns = payload.realtime_ns
        self.problem = None

    def _give_up(self, error: LayoutError | OSError, now: float) -> None:
        self.problem = (error.strerror if isinstance(error, OSError) else None) or str(error)
        self.close()
        self._check_at = now + CHECK_SECONDS
        if self._is_gone():
            self.liveness, self.late_seconds = Liveness.DEAD, None

    def _is_gone(self) -> bool:
        """Whether the kernel no longer knows the process, even if the lock is held: a forked child may have inherited it."""
        header = self._header
        if header is None or not header.start_ticks or not self.is_local:
            return False
        return start_ticks(header.pid) != header.start_ticks


@cache
def _this_machine() -> tuple[bytes, int]:
    """This boot and PID namespace; a pid means the same process only within the same ones."""
    return boot_id(), pid_namespace()
