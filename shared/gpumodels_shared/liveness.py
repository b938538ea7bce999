"""Determines whether a file's writer is alive, by its lock, and responsive, by its heartbeat and the reader's monotonic clock."""

from __future__ import annotations

from enum import Enum
from typing import Final

from gpumodels_shared.layout import Heartbeat, WriterState

LATE_AFTER_BEATS: Final = 3
"""A writer whose interpreter is merely busy may skip some; from here on readers say how old its snapshot is."""
STALLED_AFTER_BEATS: Final = 10


class Liveness(Enum):
    """The state of a writer. `--json` contains these values."""

    LIVE = "live"
    STALLED = "stalled"
    """The file is locked, but without new heartbeats: the process is stopped or swapped out, or its interpreter is blocked."""
    EXITED = "exited"
    """The writer closed its file in an orderly way."""
    DEAD = "dead"
    """The writer was killed; its last snapshot remains readable."""


class Pulse:
    """Times one writer's heartbeats as a reader observes them."""

    def __init__(self, heartbeat_ms: int) -> None:
        self._beat_seconds = max(heartbeat_ms, 1) / 1000
        self._patience_seconds = STALLED_AFTER_BEATS * self._beat_seconds
        self._beat = -1
        self._changed_at = 0.0
        self.has_seen_a_beat = False
        """Whether the heartbeat changed since the reader came; before that it may have been still for any time."""

    def seconds_to_stall(self, now: float) -> float:
        """Seconds until the writer counts as stalled if no new beat is observed; 0 once it does."""
        return max(0.0, self._changed_at + self._patience_seconds - now)

    def late_seconds(self, now: float) -> float | None:
        """For how long the reader has seen the heartbeat still, in steps of a beat; None as long as that is nothing unusual."""
        silent = now - self._changed_at
        if silent <= LATE_AFTER_BEATS * self._beat_seconds:
            return None
        return silent // self._beat_seconds * self._beat_seconds

    def observe(self, heartbeat: Heartbeat, locked: bool, now: float) -> Liveness:
        """The writer's state, given what was just read.

        Args:
            heartbeat: the newest heartbeat.
            locked: whether the file is locked.
            now: a monotonic clock in seconds, the same for all calls.
        """
        if heartbeat.beat != self._beat:
            self.has_seen_a_beat = self._beat >= 0
            self._beat = heartbeat.beat
            self._changed_at = now
        if not locked:
            return Liveness.EXITED if heartbeat.state is WriterState.EXITED else Liveness.DEAD
        return Liveness.STALLED if now - self._changed_at > self._patience_seconds else Liveness.LIVE
