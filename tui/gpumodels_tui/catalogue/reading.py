"""Gets the files' headers, from the cache or the worker, then compares values to find the files of unnamed models."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from gpumodels_shared.fingerprint import Match
from gpumodels_shared.schema import Fingerprint
from gpumodels_tui.catalogue.cache import Cache, is_settled
from gpumodels_tui.catalogue.index import Job
from gpumodels_tui.catalogue.kept_matches import files_key
from gpumodels_tui.catalogue.ledger import Ledger
from gpumodels_tui.catalogue.matching import Comparison, Matching, Search, fingerprints_within_limits
from gpumodels_tui.catalogue.tree import Stamp
from gpumodels_tui.headers.header_reader import HeaderReading, NoWorkerError, TimedOutError
from gpumodels_tui.headers.headers import UnreadableError

AGAIN_SECONDS: Final = 60.0
"""How long until a disk that didn't answer, or a worker that didn't start, is tried again."""

SILENT_AFTER_FILES: Final = 2
"""After this many files of one device have hung, its other files aren't read for `AGAIN_SECONDS`."""

RECALLED_AT_ONCE: Final = 1_000

COMPARING: Final = "comparing values"


class FileReading:
    """Reads files in a thread of its own, which calls `run`; other threads call `find_files_of` and `stop`.

    Args:
        on_recognised: called with the paths of files that models turned out to come from.
    """

    def __init__(
        self, ledger: Ledger, reader: HeaderReading, cache: Cache | None, on_recognised: Callable[[Iterable[str]], None]
    ) -> None:
        self._ledger = ledger
        self._reader = reader
        self._cache = cache
        self._on_recognised = on_recognised
        self._stopped = threading.Event()
        self._hung_devices: dict[int, tuple[int, float]] = {}
        """Devices with files that hung: how many, and when the last one did."""
        self._matching = Matching()
        self._wanted: tuple[Fingerprint, ...] = ()
        self._passed_on: tuple[Fingerprint, ...] = ()
        """The fingerprints that `_matching` was last given."""
        self._matched_at_change = -1
        """The value of `Ledger.changes` when the files were last matched with the fingerprints."""
        self._reported_at_change = -1
        """The value of `Matching.changes` when verdicts were last reported."""

    def run(self) -> None:
        """Read and compare files until stopped."""
        try:
            while self._ledger.wait_for_work():
                while self._recall() or self._read_next() or self._compare_next():
                    self._ledger.publish()
                if self._cache is not None:
                    self._cache.save()
                    self._ledger.set_notice("the cache", self._cache.problem)
                self._ledger.publish()
        finally:
            if self._cache is not None:
                self._cache.close()

    def find_files_of(self, fingerprints: Iterable[Fingerprint]) -> None:
        """Find the files that hold these values, and forget earlier requests; cheap if nothing is new."""
        wanted = fingerprints_within_limits(fingerprints)
        if frozenset(wanted) != frozenset(self._wanted):
            self._wanted = wanted
            self._ledger.search(wanted)

    def stop(self) -> None:
        """Make `run` return soon."""
        self._stopped.set()

    # Headers.

    def _recall(self) -> bool:
        """Take headers from the cache; False if no file was left to look up."""
        jobs = self._ledger.jobs_to_recall(RECALLED_AT_ONCE)
        if jobs and self._cache is not None:
            self._ledger.recalled(jobs, self._cache.look_up(jobs))
        return bool(jobs)

    def _read_next(self) -> bool:
        """Read one file; False if none was waiting."""
        job = self._ledger.next_job()
        if job is None:
            return False
        try:
            self._read_one(job)
        except NoWorkerError as error:
            self._ledger.postponed(job, str(error))
            self._ledger.publish()
            self._stopped.wait(AGAIN_SECONDS)
        return True

    def _read_one(self, job: Job) -> None:
        device = job.stamp.device
        hung, hung_at = self._hung_devices.get(device, (0, 0.0))
        if hung >= SILENT_AFTER_FILES and time.monotonic() - hung_at < AGAIN_SECONDS:
            self._ledger.failed(job, "its disk does not answer", again_seconds=AGAIN_SECONDS)
            return
        self._pass_on_wanted()
        searches = self._matching.searches_for(job.stamp.modified_ns)
        try:
            found = self._reader.read(job.real, job.suffix, [search.wanted for search in searches])
        except TimedOutError as error:
            self._hung_devices[device] = (hung + 1, time.monotonic())
            self._ledger.failed(job, error.reason, again_seconds=AGAIN_SECONDS)
        except UnreadableError as error:
            self._ledger.failed(job, error.reason, error.unfinished)
        else:
            self._hung_devices.pop(device, None)
            if found.header is not None and self._cache is not None:
                self._cache.keep(job, found.header)
            key = files_key(((job.real, job.stamp),))
            self._matching.read(key, searches, found.matches)
            self._keep(key, [job.stamp], searches, found.matches)
            self._ledger.read(job, found.header, is_wanted=any(match is not None and match.is_full for match in found.matches))

    # Values.

    def _compare_next(self) -> bool:
        """Compare values with one file; False if there was none. All headers have been read by now."""
        if self._stopped.is_set() or not self._ledger.may_compare:
            return False
        matching = self._matching
        changes = self._ledger.changes  # read before the wanted fingerprints: if those are newer, the next round sees it
        self._pass_on_wanted()
        if self._matched_at_change != changes:
            self._matched_at_change = changes
            waiting = matching.find_candidates(self._ledger.known_files())
            if waiting and self._cache is not None:
                matching.recalled(self._cache.look_up_matches({search.values for search in waiting}))
        comparison = matching.next_comparison()
        if comparison is not None:
            self._compare(comparison)
        if comparison is None or matching.changes != self._reported_at_change:
            self._reported_at_change = matching.changes
            verdicts = matching.verdicts()
            self._on_recognised([path for verdict in verdicts.values() for path in verdict.files])
            self._ledger.found(verdicts, matching.unsettled(), changes, is_all=comparison is None)
        return comparison is not None

    def _pass_on_wanted(self) -> None:
        wanted = self._wanted
        if wanted is not self._passed_on:
            self._passed_on = wanted
            self._matching.want(wanted)

    def _compare(self, comparison: Comparison) -> None:
        candidate, searches = comparison.candidate, comparison.searches
        matches: Sequence[Match | None] = ()
        try:
            matches = self._reader.compare(comparison.wanted, [path for path, _ in candidate.files], candidate.suffix)
        except UnreadableError:
            if self._stopped.is_set():
                return
            # It was readable a moment ago; what has happened to it is found by the next check.
        except NoWorkerError as error:
            self._ledger.set_notice(COMPARING, str(error))
            self._ledger.publish()
            self._stopped.wait(AGAIN_SECONDS)
            return
        self._ledger.set_notice(COMPARING, None)
        self._keep(candidate.key, [stamp for _, stamp in candidate.files], searches, matches)
        self._matching.compared(comparison, matches or (None,) * len(searches))

    def _keep(self, key: bytes, stamps: Sequence[Stamp], searches: Sequence[Search], matches: Sequence[Match | None]) -> None:
        """Cache the matches for later runs, unless the files could still change unnoticed."""
        if self._cache is not None and all(map(is_settled, stamps)):
            for search, match in zip(searches, matches, strict=False):
                if match is not None:
                    self._cache.keep_match(search.values, key, match)
