"""The index between threads: one looks and enters, one reads and enters, any may hold the states that come out."""

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
"""Between two states while many files are looked at or read."""


class Ledger:
    """Thread-safe. `on_change` is told, by the thread that made it, that there is a new state."""

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
        """Values are being compared, or will be when all files are read."""
        self.changes = 0
        """Counts what may make another file the one that a model came from, and new values that are looked for."""
        self.looking = True
        """More files than those entered are about to come: states can wait."""

    @property
    def state(self) -> CatalogueState:
        """The newest published state."""
        return self._state

    def close(self) -> None:
        """No job is given and no state is told after this."""
        with self._lock:
            self._closed = True
            self._lock.notify_all()

    # For the thread that looks.

    def looked(self) -> None:
        """All directories were walked once."""
        with self._lock:
            self.looking = False
            self._lock.notify_all()

    def saw(self, sightings: Iterable[Sighting], urgent: bool = False) -> None:
        """These names, as they are now."""
        with self._lock:
            for sighting in sightings:
                self._dirty |= self._index.saw(sighting, urgent)
            self._lock.notify_all()

    def lost(self, path: str) -> None:
        """This name is gone."""
        with self._lock:
            if self._index.lost(path):
                self._changed()
                self._lock.notify_all()

    def say(self, subject: str, text: str | None) -> None:
        """A warning about a directory; None where there is none any more."""
        with self._lock:
            if self._notices.get(subject) == text:
                return
            if text is None:
                del self._notices[subject]
            else:
                self._notices[subject] = text
            self._dirty = True

    def knows(self, path: str) -> bool:
        """Whether this name was entered."""
        with self._lock:
            return self._index.knows(path)

    def names_of(self, real: str) -> set[str]:
        """All names of the file at this real path."""
        with self._lock:
            return self._index.names_of(real)

    def names_below(self, directory: str) -> list[str]:
        """All names in this directory's tree."""
        with self._lock:
            return self._index.names_below(directory)

    def is_stamped(self, path: str, stamp: Stamp | None) -> bool:
        """Whether this is what was last seen behind the name."""
        with self._lock:
            return self._index.stamp_of(path) == stamp

    # For the thread that reads.

    def wait_for_work(self) -> bool:
        """Until there is a file to recall or read, or values to compare; False after `close`."""
        with self._lock:
            while not (self._closed or self._index.is_waited_for() or self.may_compare):
                self._lock.wait(self._index.seconds_until_due())
            return not self._closed

    @property
    def may_compare(self) -> bool:
        """Whether values are to be compared, and no file that may be the one is still to be found."""
        return self.is_searching and not self.looking

    def search(self, fingerprints: Iterable[Fingerprint]) -> None:
        """These values are to be compared with the files that are known, and again whenever those change."""
        with self._lock:
            before, self._wanted = self._wanted, frozenset(fingerprints)
            new = self._wanted - before
            self.changes += bool(new)
            self._unsettle(self._wanted & self._unsettled | new)
            self._is_wanted = self.is_searching = True
            self._lock.notify_all()

    def known_files(self) -> list[KnownFile]:
        """All whose headers were read."""
        with self._lock:
            return self._index.known_files()

    def found(
        self, values: Mapping[Fingerprint, ValuesMatch], unsettled: frozenset[Fingerprint], at_change: int, is_all: bool
    ) -> None:
        """Where values are from, and of which more may be known soon.

        Args:
            values: what is known by now.
            unsettled: those that are still to be compared with some file.
            at_change: the last of the `changes` that were taken into account.
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
        """Files that may be known from an earlier start; see `Index.jobs_to_recall`."""
        with self._lock:
            return [] if self._closed else self._index.jobs_to_recall(limit)

    def recalled(self, jobs: Iterable[Job], headers: Mapping[str, FileHeader]) -> None:
        """What is known of some of the jobs, by real path."""
        with self._lock:
            for job in jobs:
                if (header := headers.get(job.real)) is not None:
                    self._index.recalled(job, header)
            self._changed()
            if not self._index.pending:
                self._lock.notify_all()

    def next_job(self) -> Job | None:
        """The next file to read; None where none waits, and after `close`."""
        with self._lock:
            return None if self._closed else self._index.next_job()

    def read(self, job: Job, header: FileHeader | None, is_wanted: bool = False) -> None:
        """The job's answer; see `Index.read`."""
        with self._lock:
            self._index.read(job, header, is_wanted)
            self._answered()

    def failed(self, job: Job, reason: str, unfinished: bool = False, again_seconds: float | None = None) -> None:
        """Why the job has none; see `Index.failed`."""
        with self._lock:
            self._index.failed(job, reason, unfinished, again_seconds)
            self._answered()

    def postponed(self, job: Job, notice: str) -> None:
        """Nothing can be read at present."""
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

    # For those who wait for states.

    def is_due(self) -> bool:
        """Whether something changed that no published state says."""
        return self._dirty

    def publish(self) -> None:
        """A new state, unless one was made just now and more is to come anyway."""
        with self._lock:
            now = time.monotonic()
            busy = self.looking or self._index.pending > 0
            if not self._dirty or self._closed or (busy and now - self._published_at < PUBLISH_SECONDS):
                return
            self._renew(now)
        if self._on_change is not None:
            self._on_change()

    def wait_until_read(self, deadline: float) -> CatalogueState:
        """The state when all that was entered is read, or can't be, or at the deadline (monotonic)."""
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
