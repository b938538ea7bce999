"""The catalogue: model directories and the files that snapshots name, kept up to date as a series of immutable states.

One thread finds files (`finder`); another has the header worker read them, one by one (`reading`). Neither is the caller's,
so that a slow disk never blocks a screen.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from gpumodels_shared.schema import Fingerprint
from gpumodels_tui.catalogue.cache import Cache
from gpumodels_tui.catalogue.facts import CatalogueState
from gpumodels_tui.catalogue.file_finder import FileFinder
from gpumodels_tui.catalogue.ledger import Ledger
from gpumodels_tui.catalogue.reading import FileReading
from gpumodels_tui.headers.header_reader import HeaderReading, HeaderWorker

SETTLE_SECONDS: Final = 3.0
"""How long a file that seems to be incomplete is not reported as unreadable."""

STOP_SECONDS: Final = 1.0


class Catalogue:
    """The facts of all model files in some directories, and of files that are followed by path.

    Args:
        directories: watched with everything below them.
        on_change: called by some thread when `state()` is new, at most a few times a second. Must not raise.
        reader: reads the headers.
        settle_seconds: how long a file that seems to be incomplete is not reported.
        cache: headers kept from earlier runs.
        notices: warnings added to every state.
    """

    def __init__(
        self,
        directories: Sequence[Path | str] = (),
        on_change: Callable[[], None] | None = None,
        reader: HeaderReading | None = None,
        settle_seconds: float = SETTLE_SECONDS,
        cache: Cache | None = None,
        notices: Sequence[str] = (),
    ) -> None:
        self._notices = tuple(notices)
        self._directories = tuple(dict.fromkeys(str(Path(directory).expanduser().absolute()) for directory in directories))
        self._on_change = on_change
        self._reader: HeaderReading = HeaderWorker() if reader is None else reader
        self._settle_seconds = settle_seconds
        self._cache = cache
        self._wanted: list[str] = []
        self._unrecognised: tuple[Fingerprint, ...] = ()
        self._running: _Threads | None = None
        self._last = CatalogueState()

    def start(self) -> None:
        """Start finding, reading and watching files, and return immediately. Call it only once."""
        self._running = _Threads(
            self._directories, self._reader, self._cache, self._ledger(self._settle_seconds, self._on_change), watched=True
        )
        self._running.finder.follow(self._wanted)
        self._running.reading.find_files_of(self._unrecognised)
        self._running.start()

    def stop(self) -> None:
        """Stop both threads; `on_change` isn't called any more. A thread that hangs on a dead disk is abandoned."""
        if self._running is not None:
            self._last = self._running.ledger.state
            self._running.stop()

    def state(self) -> CatalogueState:
        """The newest state; after `stop`, the last one."""
        return self._last if self._running is None else self._running.ledger.state

    def follow(self, paths: Iterable[str]) -> None:
        """Read and follow these files too, wherever they are. Cheap for files that are followed already."""
        if self._running is None:
            self._wanted.extend(paths)
        else:
            self._running.finder.follow(paths)

    def add(self, directories: Iterable[Path | str]) -> None:
        """Watch these directories too, with everything below them. Cheap for directories that are watched already."""
        paths = [str(Path(directory).absolute()) for directory in directories]
        if self._running is None:
            self._directories = tuple(dict.fromkeys([*self._directories, *paths]))
        else:
            self._running.finder.add(paths)

    def find_files_of(self, fingerprints: Iterable[Fingerprint]) -> None:
        """Find the files that hold these models' values; results appear in `CatalogueState.values`. Cheap to repeat."""
        if self._running is None:
            self._unrecognised = tuple(fingerprints)
        else:
            self._running.reading.find_files_of(fingerprints)

    def read_now(self, paths: Iterable[str], deadline_seconds: float) -> CatalogueState:
        """Read these files first, then the directories, as many as possible before the deadline.

        For one-shot use of a catalogue that isn't started: nothing is watched, and incomplete files aren't waited for.
        """
        deadline = time.monotonic() + deadline_seconds
        work = self._running or _Threads(
            self._directories,
            self._reader,
            self._cache,
            self._ledger(0.0, None),
            watched=False,
            with_neighbours=bool(self._unrecognised),
        )
        work.finder.follow([*self._wanted, *paths])
        if work is not self._running:
            work.reading.find_files_of(self._unrecognised)
        if work is self._running:
            return work.read_until(deadline)
        work.start()
        self._last = work.read_until(deadline)
        work.stop()
        return self._last

    def _ledger(self, settle_seconds: float, on_change: Callable[[], None] | None) -> Ledger:
        ledger = Ledger(settle_seconds, on_change)
        for notice in self._notices:
            ledger.set_notice(notice, notice)
        return ledger


class _Threads:
    """The two threads and the ledger that they share."""

    def __init__(
        self,
        directories: Sequence[str],
        reader: HeaderReading,
        cache: Cache | None,
        ledger: Ledger,
        watched: bool,
        with_neighbours: bool = True,
    ) -> None:
        self.ledger = ledger
        self.finder = FileFinder(directories, ledger, watched, with_neighbours)
        self.reading = FileReading(ledger, reader, cache, self.finder.follow)
        self._reader = reader
        self._threads = [
            threading.Thread(target=work, name=f"gpumodels-catalogue-{name}", daemon=True)
            for name, work in (("looks", self.finder.run), ("reads", self.reading.run))
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self.ledger.close()
        self.reading.stop()
        self._reader.close()
        self.finder.stop()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(STOP_SECONDS)

    def read_until(self, deadline: float) -> CatalogueState:
        self.finder.wait_until_found(deadline)
        return self.ledger.wait_until_read(deadline)
