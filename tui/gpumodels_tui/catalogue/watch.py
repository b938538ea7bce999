"""The catalogue: model directories and the files that snapshots name, kept in step with the disk. Immutable states come out.

Two threads: one looks (walks trees, follows changes), one reads (asks the header worker, file by file). Neither is the
caller's, so that a slow disk never holds up a screen.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from gpumodels_tui.catalogue.facts import CatalogueState
from gpumodels_tui.catalogue.formats import suffix_of
from gpumodels_tui.catalogue.header_reader import HeaderReading, HeaderWorker, NoWorkerError, TimedOutError
from gpumodels_tui.catalogue.headers import UnreadableError
from gpumodels_tui.catalogue.index import Index, Job
from gpumodels_tui.catalogue.tree import NEVER_ENTERED, Sighting, Stamp, is_directory_link, look_at, walk
from gpumodels_tui.catalogue.watches import Change, Watches

SETTLE_SECONDS: Final = 3.0
"""How long a file that looks half written stays unreported."""

PUBLISH_SECONDS: Final = 0.25
"""Between two states while many files are read."""

GATHER_SECONDS: Final = 0.1
"""After a change: a file that is written to changes many times a second, and is looked at once."""

LOOK_SECONDS: Final = 0.75
"""Between two looks at followed files and at whether the directories are still the same ones."""

RESCAN_SECONDS: Final = 300.0
"""Between two full walks: what a flooded event queue lost comes back with the next."""

MAX_FOLLOWED: Final = 10_000
AGAIN_SECONDS: Final = 60.0
"""Until a disk that didn't answer, or a worker that didn't start, is tried again."""

SILENT_AFTER_FILES: Final = 2
"""Files of one device that hang before its others are left alone for a while."""

STOP_SECONDS: Final = 1.0


class Catalogue:
    """What the model files say of themselves.

    Args:
        directories: watched with all below them.
        on_change: told, from some thread, that `state()` is a new one; some times a second at most. Must not raise.
        reader: where headers come from.
    """

    def __init__(
        self,
        directories: Sequence[Path | str] = (),
        on_change: Callable[[], None] | None = None,
        reader: HeaderReading | None = None,
        settle_seconds: float = SETTLE_SECONDS,
    ) -> None:
        self._directories = tuple(dict.fromkeys(str(Path(directory).expanduser().absolute()) for directory in directories))
        self._on_change = on_change
        self._reader: HeaderReading = HeaderWorker() if reader is None else reader
        self._settle_seconds = settle_seconds
        self._lock = threading.Condition()
        self._index = Index(settle_seconds)
        self._state = CatalogueState()
        self._published_at = float("-inf")
        self._dirty = False
        self._changes: dict[Change, None] = {}
        self._followed: dict[str, None] = {}
        self._unlooked: dict[str, None] = {}
        self._notices: dict[str, str] = {}
        self._worker_notice: str | None = None
        self._walked = False
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []
        # Below: the looking thread's own.
        self._watches: Watches | None = None
        self._roots: dict[str, tuple[int, int] | None] = {}
        self._claims: dict[str, str] = {}
        self._reals: dict[str, str] = {}
        # Below: the reading thread's own.
        self._silent: dict[int, tuple[int, float]] = {}

    def start(self) -> None:
        """Begin to look, read and watch; returns at once."""
        self._watches = Watches(self._notice)
        self._run()

    def stop(self) -> None:
        """End all of it. No change is told after this, and the catalogue can't be started again."""
        with self._lock:
            self._stopped.set()
            self._lock.notify_all()
        self._reader.close()
        if self._watches is not None:
            self._watches.stop()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(STOP_SECONDS)

    def state(self) -> CatalogueState:
        """The newest state."""
        return self._state

    def follow(self, paths: Iterable[str]) -> None:
        """Read and watch these files as well, wherever they are, from now on. Cheap for those already followed."""
        with self._lock:
            for path in paths:
                if path in self._followed or not path.startswith("/") or "\0" in path or len(self._followed) >= MAX_FOLLOWED:
                    continue
                self._followed[path] = None
                self._unlooked[path] = None
            if self._unlooked:
                self._lock.notify_all()

    def read_now(self, paths: Iterable[str], deadline_seconds: float) -> CatalogueState:
        """These files first, then the directories, as far as it goes until the deadline: for one-shot use, nothing is watched.

        A catalogue that wasn't started is of no use after it.
        """
        deadline = time.monotonic() + deadline_seconds
        self.follow(paths)
        once = not self._threads
        if once:
            self._index = Index(settle_seconds=0)
            self._run()
        with self._lock:
            self._lock.wait_for(self._is_done, max(0.0, deadline - time.monotonic()))
            state = self._index.state(self._all_notices())
        if once:
            self.stop()
            self._state = state
        return state

    def _run(self) -> None:
        for work in (self._look, self._read):
            thread = threading.Thread(target=work, name=f"gpumodels-catalogue{work.__name__}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _is_done(self) -> bool:
        done = self._walked and not self._unlooked and not self._index.pending
        return done or self._worker_notice is not None

    # Looking.

    def _look(self) -> None:
        self._look_at_new_followed()
        for directory in self._directories:
            self._open_root(directory)
        with self._lock:
            self._walked = True
            self._lock.notify_all()
        self._publish()
        rescan_at = time.monotonic() + RESCAN_SECONDS
        while not self._stopped.is_set():
            with self._lock:
                if not self._changes and not self._unlooked:
                    self._lock.wait(PUBLISH_SECONDS if self._dirty else LOOK_SECONDS)
                news = bool(self._changes)
            if news and self._stopped.wait(GATHER_SECONDS):
                return
            with self._lock:
                changes, self._changes = list(self._changes), {}
            for change in changes:
                self._follow_up(change)
            self._look_at_new_followed()
            self._look_again_at_followed()
            self._check_roots()
            if time.monotonic() >= rescan_at:
                for root in list(self._roots):
                    self._walk(root)
                rescan_at = time.monotonic() + RESCAN_SECONDS
            self._publish()

    def _notice(self, change: Change) -> None:
        """Called by the watches' threads."""
        path = change.path
        if not change.is_directory and suffix_of(path) is None and self._is_foreign(path):
            return
        with self._lock:
            self._changes[change] = None
            self._lock.notify_all()

    def _is_foreign(self, path: str) -> bool:
        """Whether a file without a model file's suffix is neither known nor a way to more of them."""
        with self._lock:
            known = self._index.knows(path) or bool(self._index.names_of(self._real_of(path)))
        return not known and not is_directory_link(path)

    def _follow_up(self, change: Change) -> None:
        path = change.path
        if change.is_directory or is_directory_link(path):
            if path in self._roots:
                return  # `_check_roots` sees whether it is the same one
            if os.path.islink(path):  # noqa: PTH114
                self._open_root(path)
            else:
                self._walk(path)
            return
        with self._lock:
            names = self._index.names_of(self._real_of(path))
            if suffix_of(path) is not None or self._index.knows(path):
                names.add(path)
        for name in names:
            self._look_at(name)

    def _look_at(self, path: str, urgent: bool = False) -> None:
        sighting = look_at(path)
        with self._lock:
            if sighting is None:
                self._dirty |= self._index.lost(path)
            else:
                self._dirty |= self._index.saw(sighting, urgent)
            if self._dirty:
                self._lock.notify_all()
        if sighting is not None and sighting.real != path:
            self._follow_if_outside(sighting)

    def _look_at_new_followed(self) -> None:
        with self._lock:
            new = list(self._unlooked)
        for path in new:
            self._look_at(path, urgent=True)
        with self._lock:
            for path in new:
                del self._unlooked[path]
            self._lock.notify_all()

    def _look_again_at_followed(self) -> None:
        """One stat for each: cheaper than watches on all their directories, and right on every file system."""
        with self._lock:
            paths = list(self._followed)
        for path in paths:
            try:
                stamp = Stamp.of(os.stat(path))
            except OSError:
                stamp = None
            with self._lock:
                same = stamp == self._index.stamp_of(path)
            if not same:
                self._look_at(path, urgent=True)

    def _open_root(self, directory: str) -> None:
        """Watch first, then walk: what comes in between is seen twice rather than never."""
        if directory in self._roots and self._roots[directory] is not None:
            return
        real = os.path.realpath(directory)
        if directory not in self._directories and (real in NEVER_ENTERED or not self._may_enter(directory, real)):
            return
        self._roots[directory] = None
        try:
            status = os.stat(directory)
            if Path(directory).is_file():
                self.follow([directory])
                self._roots[directory] = (status.st_dev, status.st_ino)
                return
            notice = None if self._watches is None else self._watches.watch(directory)
        except OSError as error:
            self._say(directory, f"{directory}: {(error.strerror or type(error).__name__).lower()}")
            return
        self._roots[directory] = (status.st_dev, status.st_ino)
        self._say(directory, notice)
        self._walk(directory)

    def _check_roots(self) -> None:
        """A directory that went away, came, or is another one by the same name."""
        for directory, identity in list(self._roots.items()):
            try:
                status = os.stat(directory)
            except OSError:
                now = None
            else:
                now = (status.st_dev, status.st_ino)
            if now == identity:
                continue
            if self._watches is not None:
                self._watches.unwatch(directory)
            if directory in self._directories:
                self._roots[directory] = None
            else:
                del self._roots[directory]
                self._say(directory, None)
            for name in self._names_below(directory):
                self._look_at(name)
            if directory in self._directories:
                self._open_root(directory)

    def _walk(self, directory: str) -> None:
        """Everything below it as it is now; what was known there and isn't any more goes."""
        gone = set(self._names_below(directory))
        links: list[str] = []
        elsewhere: list[Sighting] = []
        for listing in walk(directory, self._may_enter):
            with self._lock:
                for sighting in listing.sightings:
                    gone.discard(sighting.path)
                    self._dirty |= self._index.saw(sighting)
                self._lock.notify_all()
            if listing.path not in self._roots:
                self._say(listing.path, None if listing.problem is None else f"{listing.path}: {listing.problem}")
            elif listing.problem is not None:
                self._say(listing.path, f"{listing.path}: {listing.problem}")
            links.extend(listing.links)
            elsewhere.extend(sighting for sighting in listing.sightings if sighting.real != sighting.path)
            if self._stopped.is_set():
                return
            self._publish()
        for name in gone:
            self._look_at(name)
        for link in links:
            self._open_root(link)
        for sighting in elsewhere:
            self._follow_if_outside(sighting)

    def _follow_if_outside(self, sighting: Sighting) -> None:
        """What a symlink leads to out of the watched trees would change unseen."""
        if sighting.stamp is None or sighting.real.rpartition("/")[0] in self._claims:
            return
        with self._lock:
            if len(self._followed) < MAX_FOLLOWED:
                self._followed[sighting.path] = None

    def _names_below(self, directory: str) -> list[str]:
        with self._lock:
            return self._index.names_below(directory)

    def _may_enter(self, path: str, real: str) -> bool:
        """Each real directory is walked under one name, for as long as that name leads to it: no loop, no double work."""
        claimant = self._claims.get(real)
        if claimant is not None and claimant != path and os.path.realpath(claimant) == real:
            return False
        self._claims[real] = path
        self._reals[path] = real
        return True

    def _real_of(self, path: str) -> str:
        """Where a name in a walked directory really is, its own last step not resolved."""
        directory, _, name = path.rpartition("/")
        return f"{self._reals.get(directory, directory)}/{name}"

    def _say(self, subject: str, text: str | None) -> None:
        with self._lock:
            if self._notices.get(subject) == text:
                return
            if text is None:
                del self._notices[subject]
            else:
                self._notices[subject] = text
            self._dirty = True

    # Reading.

    def _read(self) -> None:
        while True:
            with self._lock:
                job = None
                while not self._stopped.is_set() and (job := self._index.next_job()) is None:
                    self._lock.wait(self._index.seconds_until_due())
            if job is None:
                return
            try:
                self._read_one(job)
            except NoWorkerError as error:
                with self._lock:
                    self._index.postponed(job)
                    self._worker_notice = str(error)
                    self._dirty = True
                    self._lock.notify_all()
                self._publish()
                if self._stopped.wait(AGAIN_SECONDS):
                    return
            else:
                self._publish()

    def _read_one(self, job: Job) -> None:
        device = job.stamp.device
        hung, hung_at = self._silent.get(device, (0, 0.0))
        reason, unfinished, again_seconds = "", False, None
        header = None
        if hung >= SILENT_AFTER_FILES and time.monotonic() - hung_at < AGAIN_SECONDS:
            reason, again_seconds = "its disk does not answer", AGAIN_SECONDS
        else:
            try:
                header = self._reader.read(job.real, job.suffix)
                self._silent.pop(device, None)
            except TimedOutError as error:
                self._silent[device] = (hung + 1, time.monotonic())
                reason, again_seconds = error.reason, AGAIN_SECONDS
            except UnreadableError as error:
                reason, unfinished = error.reason, error.unfinished
        with self._lock:
            self._worker_notice = None
            self._dirty = True
            if reason:
                self._index.failed(job, reason, unfinished, again_seconds)
            else:
                self._index.read(job, header)
            if not self._index.pending:
                self._lock.notify_all()

    # Telling.

    def _all_notices(self) -> tuple[str, ...]:
        worker = () if self._worker_notice is None else (self._worker_notice,)
        return (*worker, *sorted(self._notices.values()))

    def _publish(self) -> None:
        """A new state, unless one is due soon: while files wait to be read, another read or look comes after this one."""
        with self._lock:
            now = time.monotonic()
            busy = self._index.pending > 0 or not self._walked
            if not self._dirty or self._stopped.is_set() or (busy and now - self._published_at < PUBLISH_SECONDS):
                return
            self._state = self._index.state(self._all_notices())
            self._published_at = now
            self._dirty = False
        if self._on_change is not None:
            self._on_change()
