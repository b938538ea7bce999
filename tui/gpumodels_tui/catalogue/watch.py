"""The catalogue: model directories and the files that snapshots name, kept in step with the disk. Immutable states come out.

Two threads: one looks (`looking`), one reads (asks the header worker, file by file). Neither is the caller's, so that a slow
disk never holds up a screen.
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
from gpumodels_tui.catalogue.ledger import Ledger
from gpumodels_tui.catalogue.looking import Looking
from gpumodels_tui.catalogue.reading import Reading
from gpumodels_tui.headers.header_reader import HeaderReading, HeaderWorker

SETTLE_SECONDS: Final = 3.0
"""How long a file that looks half written stays unreported."""

STOP_SECONDS: Final = 1.0


class Catalogue:
    """What the model files say of themselves.

    Args:
        directories: watched with all below them.
        on_change: told, from some thread, that `state()` is a new one; some times a second at most. Must not raise.
        reader: where headers come from.
        cache: what was read at earlier starts.
        notices: warnings to go with every state.
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
        self._work: _Work | None = None
        self._last = CatalogueState()

    def start(self) -> None:
        """Begin to look, read and watch; returns at once. Once only."""
        self._work = _Work(
            self._directories, self._reader, self._cache, self._ledger(self._settle_seconds, self._on_change), watched=True
        )
        self._work.looking.follow(self._wanted)
        self._work.reading.recognise(self._unrecognised)
        self._work.start()

    def stop(self) -> None:
        """End all of it; no change is told after this. What doesn't end in time, on a dead disk, is left behind."""
        if self._work is not None:
            self._last = self._work.ledger.state
            self._work.stop()

    def state(self) -> CatalogueState:
        """The newest state."""
        return self._last if self._work is None else self._work.ledger.state

    def follow(self, paths: Iterable[str]) -> None:
        """Read and watch these files as well, wherever they are, from now on. Cheap for those already followed."""
        if self._work is None:
            self._wanted.extend(paths)
        else:
            self._work.looking.follow(paths)

    def add(self, directories: Iterable[Path | str]) -> None:
        """Watch these directories as well, with all below them, from now on. Cheap for those already watched."""
        paths = [str(Path(directory).absolute()) for directory in directories]
        if self._work is None:
            self._directories = tuple(dict.fromkeys([*self._directories, *paths]))
        else:
            self._work.looking.add(paths)

    def recognise(self, fingerprints: Iterable[Fingerprint]) -> None:
        """Find the files that these models' values are from; `CatalogueState.values` will tell. Cheap for those asked before."""
        if self._work is None:
            self._unrecognised = tuple(fingerprints)
        else:
            self._work.reading.recognise(fingerprints)

    def read_now(self, paths: Iterable[str], deadline_seconds: float) -> CatalogueState:
        """These files first, then the directories, as far as it goes until the deadline.

        For one-shot use of a catalogue that isn't started: nothing is watched, and a half-written file isn't waited for.
        """
        deadline = time.monotonic() + deadline_seconds
        work = self._work or _Work(
            self._directories,
            self._reader,
            self._cache,
            self._ledger(0.0, None),
            watched=False,
            models_beside=bool(self._unrecognised),
        )
        work.looking.follow([*self._wanted, *paths])
        if work is not self._work:
            work.reading.recognise(self._unrecognised)
        if work is self._work:
            return work.read_until(deadline)
        work.start()
        self._last = work.read_until(deadline)
        work.stop()
        return self._last

    def _ledger(self, settle_seconds: float, on_change: Callable[[], None] | None) -> Ledger:
        ledger = Ledger(settle_seconds, on_change)
        for notice in self._notices:
            ledger.say(notice, notice)
        return ledger


class _Work:
    """The two threads, and what they share."""

    def __init__(
        self,
        directories: Sequence[str],
        reader: HeaderReading,
        cache: Cache | None,
        ledger: Ledger,
        watched: bool,
        models_beside: bool = True,
    ) -> None:
        self.ledger = ledger
        self.looking = Looking(directories, ledger, watched, models_beside)
        self.reading = Reading(ledger, reader, cache, self.looking.follow)
        self._reader = reader
        self._threads = [
            threading.Thread(target=work, name=f"gpumodels-catalogue-{name}", daemon=True)
            for name, work in (("looks", self.looking.run), ("reads", self.reading.run))
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self.ledger.close()
        self.reading.stop()
        self._reader.close()
        self.looking.stop()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(STOP_SECONDS)

    def read_until(self, deadline: float) -> CatalogueState:
        self.looking.wait_until_looked(deadline)
        return self.ledger.wait_until_read(deadline)
