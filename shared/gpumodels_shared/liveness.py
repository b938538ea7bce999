"""Whether a file's writer still lives: its lock says if, its heart says how well. Clocks are the reader's own, monotonic."""

from __future__ import annotations

from enum import Enum
from typing import Final

from gpumodels_shared.layout import Heartbeat, WriterState

STALLED_AFTER_BEATS: Final = 3


class Liveness(Enum):
    """`--json` writes the values."""

    LIVE = "live"
    STALLED = "stalled"
    """Held but silent: stopped, swapped out, or something keeps the interpreter lock."""
    EXITED = "exited"
    """Said goodbye."""
    DEAD = "dead"
    """Killed: its last snapshot stays on view."""


class Pulse:
    """One writer's beats as this reader sees them come."""

    def __init__(self, heartbeat_ms: int) -> None:
        self._patience_seconds = STALLED_AFTER_BEATS * max(heartbeat_ms, 1) / 1000
        self._beat = -1
        self._changed_at = 0.0

    def seconds_to_stall(self, now: float) -> float:
        """How long its silence may still last; 0 once it is too long."""
        return max(0.0, self._changed_at + self._patience_seconds - now)

    def observe(self, heartbeat: Heartbeat, locked: bool, now: float) -> Liveness:
        """What it is now; `now` is a monotonic clock in seconds, the same for all calls."""
        if heartbeat.beat != self._beat:
            self._beat = heartbeat.beat
            self._changed_at = now
        if not locked:
            return Liveness.EXITED if heartbeat.state is WriterState.EXITED else Liveness.DEAD
        return Liveness.STALLED if now - self._changed_at > self._patience_seconds else Liveness.LIVE
