"""The index, shared between threads: one enters the files found, one their headers, and any may hold the resulting states."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from gpumodels_shared.schema import Fingerprint
from gpumodels_tui.catalogue.facts import CatalogueState, ValuesMatch
from gpumodels_tui.catalogue.index import Index, Job, KnownFile
from gpumodels_tui.catalogue.tree import Sighting, Stamp
from gpumodels_tui.headers.headers import FileHeader

PUBLISH_SECONDS: Final = 0.25
"""Between two states while many files are being found or read."""


class Ledger:
    """Thread-safe. `on_change` is called by the thread that published a new state."""

    def __init__(self, settle_seconds: float, on_change: Callable[[], None] | None) -> None:
        self._index = Index(settle_seconds)
        self._on_change = on_change
        self._lock = threading.Condition()
        self._state = CatalogueState()
        self._published_at = float("-inf")
        self._dirty = False
        self._closed = False
        self._notices: dict[str, str] = {}
        self._no_worker: str | None = None
        self._values: dict[Fingerprint, ValuesMatch] = {}
        self._wanted: frozenset[Fingerprint] = frozenset()
        self._unsettled: frozenset[Fingerprint] = frozenset()
        self._is_wanted = False
        self.is_searching = False
        """Whether values are being compared, or will be once all files are read."""
        self.changes = 0
        """Counts new searches, and changes of files that may change which file a model came from."""
        self.is_walking = True
        """Whether directories are still being walked; more files will follow, so new states can wait."""

    @property
    def state(self) -> CatalogueState:
        """The newest published state."""
        return self._state

    def close(self) -> None:
        """Hand out no more jobs, and publish no more states."""
        with self._lock:
            self._closed = True
            self._lock.notify_all()

    # For the thread that finds files.

    def finish_walk(self) -> None:
        """Record that all directories have been walked once."""
        with self._lock:
            self.is_walking = False
            self._lock.notify_all()

    def enter(self, sightings: Iterable[Sighting], urgent: bool = False) -> None:
        """Enter what was found at these paths."""
        with self._lock:
            for sighting in sightings:
                self._dirty |= self._index.enter(sighting, urgent)
            self._lock.notify_all()

    def remove(self, path: str) -> None:
        """Remove this path: nothing is there any more."""
        with self._lock:
            if self._index.remove(path):
                self._changed()
                self._lock.notify_all()

    def set_notice(self, subject: str, text: str | None) -> None:
        """Set the warning about a subject, such as a directory; None removes it."""
        with self._lock:
            if self._notices.get(subject) == text:
                return
            if text is None:
                del self._notices[subject]
            else:
                self._notices[subject] = text
            self._dirty = True

    def knows(self, path: str) -> bool:
        """Whether this path was entered and not removed."""
        with self._lock:
            return self._index.knows(path)

    def names_of(self, real: str) -> set[str]:
        """All known paths that lead to the file at this real path."""
        with self._lock:
            return self._index.names_of(real)

    def names_below(self, directory: str) -> list[str]:
        """All known paths below this directory."""
        with self._lock:
            return self._index.names_below(directory)

    def is_stamped(self, path: str, stamp: Stamp | None) -> bool:
        """Whether the file at this path had this stamp when it was last inspected."""
        with self._lock:
            return self._index.stamp_of(path) == stamp

    # For the thread that reads.

    def wait_for_work(self) -> bool:
        """Wait until there is a file to recall or read, or values to compare; False after `close`."""
        with self._lock:
            while not (self._closed or self._index.is_waited_for() or self.may_compare):
                self._lock.wait(self._index.seconds_until_due())
            return not self._closed

    @property
    def may_compare(self) -> bool:
        """Whether values are to be compared, and all files that could hold them have been found."""
        return self.is_searching and not self.is_walking

    def search(self, fingerprints: Iterable[Fingerprint]) -> None:
        """Have these values compared with the known files, and again whenever those change."""
        with self._lock:
            before, self._wanted = self._wanted, frozenset(fingerprints)
            new = self._wanted - before
            self.changes += bool(new)
            self._unsettle(self._wanted & self._unsettled | new)
            self._is_wanted = self.is_searching = True
            self._lock.notify_all()

    def known_files(self) -> list[KnownFile]:
        """All files whose headers have been read."""
        with self._lock:
            return self._index.known_files()

    def found(
        self, values: Mapping[Fingerprint, ValuesMatch], unsettled: frozenset[Fingerprint], at_change: int, is_all: bool
    ) -> None:
        """Enter which files hold the searched values.

        Args:
            values: the matches so far.
            unsettled: those that must still be compared with some file.
            at_change: the value of `changes` that the result is based on.
            is_all: whether nothing is left to compare.
        """
        with self._lock:
            is_current = at_change == self.changes
            self.is_searching = not (is_all and is_current)
            self._unsettle((unsettled if is_current else unsettled | self._unsettled) & self._wanted)
            if values != self._values:
                self._values = dict(values)
                self._dirty = True
            self._lock.notify_all()

    def _unsettle(self, fingerprints: frozenset[Fingerprint]) -> None:
        self._dirty |= fingerprints != self._unsettled
        self._unsettled = fingerprints

    def jobs_to_recall(self, limit: int) -> list[Job]:
        """Files that may be in the cache; see `Index.jobs_to_recall`."""
        with self._lock:
            return [] if self._closed else self._index.jobs_to_recall(limit)

    def recalled(self, jobs: Iterable[Job], headers: Mapping[str, FileHeader]) -> None:
        """Enter the headers found in the cache, by real path."""
        with self._lock:
            for job in jobs:
                if (header := headers.get(job.real)) is not None:
                    self._index.recalled(job, header)
            self._changed()
            if not self._index.pending:
                self._lock.notify_all()

    def next_job(self) -> Job | None:
        """The next file to read; None if none is waiting, and after `close`."""
        with self._lock:
            return None if self._closed else self._index.next_job()

    def read(self, job: Job, header: FileHeader | None, is_wanted: bool = False) -> None:
        """Enter a job's result; see `Index.read`."""
        with self._lock:
            self._index.read(job, header, is_wanted)
            self._answered()

    def failed(self, job: Job, reason: str, unfinished: bool = False, again_seconds: float | None = None) -> None:
        """Enter why a job failed; see `Index.failed`."""
        with self._lock:
            self._index.failed(job, reason, unfinished, again_seconds)
            self._answered()

    def postponed(self, job: Job, notice: str) -> None:
        """Put a job back, since no file can be read at present; the notice says why."""
        with self._lock:
            self._index.postponed(job)
            self._no_worker = notice
            self._dirty = True
            self._lock.notify_all()

    def _answered(self) -> None:
        self._no_worker = None
        self._changed()
        if not self._index.pending:
            self._lock.notify_all()

    def _changed(self) -> None:
        self._dirty = True
        self.changes += 1
        self.is_searching = self._is_wanted

    # For users of the states.

    def is_due(self) -> bool:
        """Whether something has changed since the last state was published."""
        return self._dirty

    def publish(self) -> None:
        """Publish a new state if something changed; while files are being found or read, at most every `PUBLISH_SECONDS`."""
        with self._lock:
            now = time.monotonic()
            busy = self.is_walking or self._index.pending > 0
            if not self._dirty or self._closed or (busy and now - self._published_at < PUBLISH_SECONDS):
                return
            self._renew(now)
        if self._on_change is not None:
            self._on_change()

    def wait_until_read(self, deadline: float) -> CatalogueState:
        """Wait until every entered file has been read, or can't be, or until the deadline (monotonic time)."""
        with self._lock:
            self._lock.wait_for(
                lambda: self._no_worker is not None or not (self._index.pending or self.is_searching),
                max(0.0, deadline - time.monotonic()),
            )
            self._renew(time.monotonic())
            return self._state

    def _renew(self, now: float) -> None:
        worker = () if self._no_worker is None else (self._no_worker,)
        self._state = self._index.state((*worker, *sorted(self._notices.values())), self._values, self._unsettled)
        self._published_at = now
        self._dirty = False
