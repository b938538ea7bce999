"""The catalogue's books: which names lead to which files, what each said, what is still to be read. Knows no thread, no disk."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.schema import Fingerprint
from gpumodels_tui.catalogue.facts import CatalogueState, FileFacts, ValuesMatch
from gpumodels_tui.catalogue.name_tree import NameTree
from gpumodels_tui.catalogue.tree import Sighting, Stamp
from gpumodels_tui.headers.formats import suffix_of
from gpumodels_tui.headers.headers import FileHeader

RECENT_SECONDS: Final = 10.0
"""A file modified no longer ago than this may still be being written."""

FIRST_RETRY_SECONDS: Final = 0.25
LAST_RETRY_SECONDS: Final = 1.0

MAX_WARNINGS: Final = 200

NOTHING_COMPARED: Final[Mapping[Fingerprint, ValuesMatch]] = {}


@dataclass(frozen=True, slots=True)
class Job:
    """One file to read."""

    real: str
    suffix: str | None
    stamp: Stamp
    with_all_metadata: bool = False
    """All metadata are wanted; of a file that no model came from, a part will do."""


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A file whose header was read."""

    facts: FileFacts
    stamp: Stamp
    suffix: str | None

    @property
    def name(self) -> str:
        """What people call it by: where a symlink leads to it, the symlink's path."""
        return self.facts.aliases[0] if self.facts.aliases else self.facts.path


@dataclass(slots=True)
class _File:
    stamp: Stamp
    suffix: str | None
    since: float
    """When this stamp was first seen, on our own clock."""
    names: set[str] = field(default_factory=set)
    header: FileHeader | None = None
    header_stamp: Stamp | None = None
    """What was read: an older state of the file for as long as the newer one isn't read."""
    facts: FileFacts | None = None
    reason: str | None = None
    retries: int = 0
    is_wanted: bool = False
    """A model came from it: its metadata stay whole."""


class Index:
    """Not thread-safe. Methods that may change what is known say whether they did."""

    def __init__(
        self,
        settle_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        realtime: Callable[[], float] = time.time,
    ) -> None:
        self._settle_seconds = settle_seconds
        self._clock = clock
        self._realtime = realtime
        self._files: dict[str, _File] = {}
        self._names: dict[str, str] = {}
        self._problems: dict[str, str] = {}
        self._tree = NameTree()
        """Of the names in both."""
        # A file is in at most one of these three.
        self._urgent: OrderedDict[str, None] = OrderedDict()
        self._queue: OrderedDict[str, None] = OrderedDict()
        self._unfinished: set[str] = set()
        self._unrecalled: OrderedDict[str, None] = OrderedDict()
        """Of those that wait: the ones that no cache was asked for."""
        self._retries: dict[str, float] = {}
        self._being_read: str | None = None

    @property
    def pending(self) -> int:
        """Files that were seen but not read to an end."""
        waiting = len(self._urgent) + len(self._queue) + len(self._unfinished)
        return waiting + (self._being_read is not None and not self._is_queued(self._being_read))

    def knows(self, path: str) -> bool:
        """Whether this name was seen and is not gone."""
        return path in self._names or path in self._problems

    def stamp_of(self, path: str) -> Stamp | None:
        """The last stamp seen behind this name."""
        real = self._names.get(path)
        return None if real is None else self._files[real].stamp

    def names_of(self, real: str) -> set[str]:
        """All names that lead to this real path."""
        file = self._files.get(real)
        return set() if file is None else set(file.names)

    def names_below(self, directory: str) -> list[str]:
        """All names in this directory's tree."""
        return list(self._tree.below(directory))

    def enter(self, sighting: Sighting, urgent: bool = False) -> bool:
        """A name as it is now."""
        path = sighting.path
        if sighting.stamp is None:
            reason = sighting.problem or "nothing to read"
            if self._problems.get(path) == reason:
                return False
            self._forget(path)
            self._problems[path] = reason
            self._tree.add(path)
            return True
        changed = self._problems.pop(path, None) is not None
        if self._names.get(path, sighting.real) != sighting.real:
            self._forget(path)
        file = self._files.get(sighting.real)
        if file is None:
            file = self._files[sighting.real] = _File(sighting.stamp, suffix_of(path), self._clock())
            self._enqueue(sighting.real, urgent)
            changed = True
        elif file.stamp != sighting.stamp:
            file.stamp, file.since, file.retries = sighting.stamp, self._clock(), 0
            self._enqueue(sighting.real, urgent)
            changed = True
        elif urgent and sighting.real in self._queue:
            self._enqueue(sighting.real, urgent)
        if urgent and not file.is_wanted:
            file.is_wanted = True
            if file.header is not None and file.header.is_brief:
                self._enqueue(sighting.real, urgent)
        if path not in file.names:
            file.names.add(path)
            self._names[path] = sighting.real
            self._tree.add(path)
            changed = True
            if file.suffix is None and (suffix := suffix_of(path)) is not None:
                file.suffix = suffix
                self._enqueue(sighting.real, urgent)
            self._restate(sighting.real, file)
        return changed

    def remove(self, path: str) -> bool:
        """The name is gone."""
        known = self.knows(path)
        self._forget(path)
        return known

    def next_job(self) -> Job | None:
        """The file to read now; to be answered by `read` or `failed`."""
        now = self._clock()
        for real in [real for real, due in self._retries.items() if due <= now]:
            del self._retries[real]
            self._enqueue(real, urgent=False)
        for queue in (self._urgent, self._queue):
            if queue:
                real, _ = queue.popitem(last=False)
                self._unrecalled.pop(real, None)
                self._being_read = real
                return self._job(real)
        return None

    def jobs_to_recall(self, limit: int) -> list[Job]:
        """Files that wait and may be known from an earlier start; each is offered once. Answered by `recalled`, or not."""
        jobs: list[Job] = []
        while self._unrecalled and len(jobs) < limit:
            jobs.append(self._job(self._unrecalled.popitem(last=False)[0]))
        return jobs

    def recalled(self, job: Job, header: FileHeader) -> None:
        """What a file said at an earlier start; it needn't be read."""
        file = self._files.get(job.real)
        if file is not None and file.stamp == job.stamp and (job.with_all_metadata or not file.is_wanted):
            self._urgent.pop(job.real, None)
            self._queue.pop(job.real, None)
            file.header, file.header_stamp, file.reason = header, job.stamp, None
            self._restate(job.real, file)

    def is_waited_for(self) -> bool:
        """Whether `next_job` has one to give."""
        return bool(self._urgent or self._queue or any(due <= self._clock() for due in self._retries.values()))

    def seconds_until_due(self) -> float | None:
        """How long until a file is worth another try; None where none waits for one."""
        if not self._retries:
            return None
        return max(0.0, min(self._retries.values()) - self._clock())

    def read(self, job: Job, header: FileHeader | None, is_wanted: bool = False) -> None:
        """What the file said; None where no reader is for it.

        Args:
            is_wanted: whether a model turned out to be from it, so that all that it said is kept.
        """
        file = self._settled(job)
        if file is None:
            return
        file.is_wanted |= is_wanted
        kept = header if header is None or file.is_wanted else header.brief()
        file.header, file.header_stamp, file.reason = kept, job.stamp, None
        self._restate(job.real, file)

    def failed(self, job: Job, reason: str, unfinished: bool = False, again_seconds: float | None = None) -> None:
        """Why it said nothing.

        Args:
            unfinished: it may be so because it is still being written: tried again before anyone is told.
            again_seconds: after which it is tried again while everyone is told.
        """
        file = self._settled(job)
        if file is None:
            return
        now = self._clock()
        if self._is_queued(job.real):
            return
        if unfinished and now - file.since < self._settle_seconds and self._is_recent(job.stamp):
            self._retries[job.real] = now + min(FIRST_RETRY_SECONDS * 2**file.retries, LAST_RETRY_SECONDS)
            self._unfinished.add(job.real)
            file.retries += 1
            return
        file.header, file.facts, file.reason = None, None, reason
        if again_seconds is not None:
            self._retries[job.real] = now + again_seconds

    def postponed(self, job: Job) -> None:
        """It could not be tried."""
        if self._settled(job) is not None:
            self._enqueue(job.real, urgent=True)

    def known_files(self) -> list[KnownFile]:
        """All whose facts are known and of now."""
        return [
            KnownFile(file.facts, file.stamp, file.suffix)
            for file in self._files.values()
            if file.facts is not None and file.header_stamp == file.stamp
        ]

    def state(
        self,
        notices: tuple[str, ...] = (),
        values: Mapping[Fingerprint, ValuesMatch] = NOTHING_COMPARED,
        unsettled: frozenset[Fingerprint] = frozenset(),
    ) -> CatalogueState:
        """All of it, as others may hold it. `notices` come before the files' warnings."""
        by_path: dict[str, FileFacts] = {}
        warnings: list[str] = []
        for real, file in self._files.items():
            if file.facts is not None:
                by_path[real] = file.facts
                for name in file.names:
                    by_path[name] = file.facts
            elif file.reason is not None:
                warnings.append(f"{min(file.names)}: {file.reason}")
        warnings.extend(f"{path}: {problem}" for path, problem in self._problems.items())
        warnings.sort()
        if len(warnings) > MAX_WARNINGS:
            warnings[MAX_WARNINGS:] = [f"{len(warnings) - MAX_WARNINGS} more model files could not be read"]
        texts = tuple(safe_text(text) for text in (*notices, *warnings))
        return CatalogueState(by_path, texts, self.pending, len(self._files), values, unsettled)

    def _job(self, real: str) -> Job:
        file = self._files[real]
        return Job(real, file.suffix, file.stamp, file.is_wanted)

    def _is_recent(self, stamp: Stamp) -> bool:
        return abs(self._realtime() - stamp.modified_ns / 1e9) < RECENT_SECONDS

    def _is_queued(self, real: str) -> bool:
        return real in self._urgent or real in self._queue

    def _enqueue(self, real: str, urgent: bool) -> None:
        self._retries.pop(real, None)
        self._unfinished.discard(real)
        self._unrecalled[real] = None
        if urgent:
            self._queue.pop(real, None)
            self._urgent[real] = None
        elif real not in self._urgent:
            self._queue[real] = None

    def _settled(self, job: Job) -> _File | None:
        """The file that the answer is about, unless it has changed or gone since it was asked."""
        if self._being_read == job.real:
            self._being_read = None
        file = self._files.get(job.real)
        return file if file is not None and file.stamp == job.stamp else None

    def _restate(self, real: str, file: _File) -> None:
        if file.header is None or file.header_stamp is None:
            file.facts = None
            return
        file.facts = FileFacts(
            path=real,
            size_bytes=file.header_stamp.size_bytes,
            modified_ns=file.header_stamp.modified_ns,
            format=file.header.format,
            metadata=file.header.metadata,
            tensors=file.header.tensors,
            dtypes=file.header.dtypes,
            aliases=() if file.names == {real} else tuple(sorted(file.names - {real})),
            shapes=file.header.shapes,
            shards=file.header.shards,
            rank=file.header.rank,
            precision=file.header.precision,
        )

    def _forget(self, path: str) -> None:
        self._problems.pop(path, None)
        self._tree.discard(path)
        real = self._names.pop(path, None)
        if real is None:
            return
        file = self._files[real]
        file.names.discard(path)
        if file.names:
            self._restate(real, file)
            return
        del self._files[real]
        self._unfinished.discard(real)
        for waiting in (self._urgent, self._queue, self._retries, self._unrecalled):
            waiting.pop(real, None)
