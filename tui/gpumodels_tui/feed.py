"""Files to snapshots: finds the sidecars' files, reads what changed, and knows which writers live. Knows no screen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gpumodels_shared.liveness import Liveness
from gpumodels_shared.schema import Snapshot


@dataclass(frozen=True, slots=True)
class ProcessState:
    """One sidecar's file as it is now: never an exception, always a row."""

    key: str
    """The same for as long as the process lives, also when its file is replaced by a larger one."""
    path: Path
    pid: int
    user: str
    liveness: Liveness
    snapshot: Snapshot | None
    """The last good one; None before the first was published."""
    snapshot_at_ns: int | None = None
    problem: str | None = None
    """Why the newest could not be read, while the one before it is shown."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file, or directory, in our place that is no sidecar's, or damaged, or not to be trusted."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class FeedState:
    """All that the files say at one moment."""

    directories: tuple[Path, ...]
    processes: tuple[ProcessState, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
