"""The ring on disk: the last 24 hours, in 64 MB at most, for the owner only. One service of a user keeps it at a time.

It is in `$STATE_DIRECTORY/history` for a service that systemd gives one, else in `~/.local/state/gpumodels/history` (or below
XDG_STATE_HOME). Each of its files is a recording; the oldest are removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import platformdirs

from gpumodels_shared.places import ensure_directory, open_directory
from gpumodels_tui.recording.files import create
from gpumodels_tui.recording.lines import RecordingError
from gpumodels_tui.recording.sampling import Moment
from gpumodels_tui.recording.writing import RecordingWriter

DIRECTORY: Final = "history"
SUFFIX: Final = ".ndjson.gz"
LOCK: Final = "lock"
RING_BYTES: Final = 64 * 1024**2
RING_SECONDS: Final = 24 * 3600.0
FILE_BYTES: Final = 4 * 1024**2
FILE_SECONDS: Final = 900.0
RETRY_SECONDS: Final = 60.0
"""How long after a failure, or while another service keeps the ring, it is tried again."""
EVERY_SECONDS: Final = 2.0
TREE_BYTES: Final = 0
"""The ring keeps no layer trees."""
PRUNE_SECONDS: Final = 10.0


def ring_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """Where the ring is kept."""
    given = environment.get("STATE_DIRECTORY", "").split(":")[0]
    return (Path(given) if given else platformdirs.user_state_path("gpumodels", appauthor=False)) / DIRECTORY


def ring_files(directory: Path) -> list[Path]:
    """Its files, the oldest first.

    Raises:
        RecordingError: there is no such directory, or it may not be trusted.
    """
    owners = None if os.geteuid() == 0 else {os.geteuid()}
    try:
        descriptor = open_directory(directory, owners, accept_shared=True)
    except FileNotFoundError as error:
        raise RecordingError(
            f"{directory}: nothing was recorded yet; run `gpumodels-tui record` or `gpumodels-tui metrics` in the background"
        ) from error
    except OSError as error:
        raise RecordingError(f"{directory}: {(error.strerror or str(error)).removeprefix(f'{directory} ')}") from error
    try:
        return [directory / name for name in sorted(os.listdir(descriptor)) if name.endswith(SUFFIX)]
    finally:
        os.close(descriptor)


class RingWriter:
    """Keeps the ring, unless somebody else does. Never raises: `problem` says what is wrong."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = -1
        self._writer: RecordingWriter | None = None
        self._begun_at = float("-inf")
        self._pruned_at = float("-inf")
        self._retry_at = float("-inf")
        self.problem: str | None = None
        """Why nothing is kept at the moment; None while another service keeps it."""

    @property
    def is_keeping(self) -> bool:
        """Whether this writer keeps the ring."""
        return self._writer is not None

    def write(self, moment: Moment) -> None:
        """Add a moment."""
        now = time.monotonic()
        if now < self._retry_at:
            return
        try:
            if self._has_lock():
                self._write(moment, now)
                self.problem = None
            else:
                self._retry_at = now + RETRY_SECONDS
        except (OSError, RecordingError) as error:
            self.problem = (error.strerror if isinstance(error, OSError) else None) or str(error)
            self._retry_at = now + RETRY_SECONDS
            self._end_file()

    def close(self) -> None:
        """End the file, and let others keep the ring."""
        self._end_file()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _write(self, moment: Moment, now: float) -> None:
        if self._writer is not None and now - self._begun_at >= FILE_SECONDS:
            self._end_file()
        if now - self._pruned_at >= PRUNE_SECONDS or self._writer is None:
            self._prune()
            self._pruned_at = now
        if self._writer is None:
            self._begin_file(moment, now)
        elif not self._add(moment):
            self._end_file()
            self._prune()
            self._begin_file(moment, now)

    def _begin_file(self, moment: Moment, now: float) -> None:
        name = f"{moment.at_ns:020}-{os.getpid()}{SUFFIX}"
        self._writer = RecordingWriter(create(self._directory / name), FILE_BYTES, EVERY_SECONDS)
        self._begun_at = now
        if not self._add(moment):
            raise RecordingError(f"a single moment takes more than {FILE_BYTES // 1024**2} MB")

    def _add(self, moment: Moment) -> bool:
        return self._writer is not None and self._writer.write(moment.at_ns, moment.document, moment.events, moment.used)

    def _end_file(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            with contextlib.suppress(OSError):
                writer.close()

    def _has_lock(self) -> bool:
        if self._lock >= 0:
            return True
        ensure_directory(self._directory)
        descriptor = os.open(self._directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._lock = descriptor
        return True

    def _prune(self) -> None:
        """Remove what is too old, and the oldest of what is too much, so that there is room for another file."""
        files = []
        for path in ring_files(self._directory):
            with contextlib.suppress(OSError):
                status = os.lstat(path)
                files.append((path, status.st_size, status.st_mtime))
        total = sum(size for _, size, _ in files)
        oldest = time.time() - RING_SECONDS
        own = None if self._writer is None else len(files) - 1
        for number, (path, size, modified) in enumerate(files):
            if number == own or (modified >= oldest and total + FILE_BYTES <= RING_BYTES):
                continue
            with contextlib.suppress(OSError):
                path.unlink()
                total -= size
