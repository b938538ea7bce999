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

from gpumodels_tui.catalogue.facts import CatalogueState
from gpumodels_tui.catalogue.header_reader import HeaderReading, HeaderWorker, NoWorkerError, TimedOutError
from gpumodels_tui.catalogue.headers import UnreadableError
from gpumodels_tui.catalogue.index import Job
from gpumodels_tui.catalogue.ledger import Ledger
from gpumodels_tui.catalogue.looking import Looking

SETTLE_SECONDS: Final = 3.0
"""How long a file that looks half written stays unreported."""

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
        self._wanted: list[str] = []
        self._work: _Work | None = None
        self._last = CatalogueState()

    def start(self) -> None:
        """Begin to look, read and watch; returns at once. Once only."""
        self._work = _Work(self._directories, self._reader, Ledger(self._settle_seconds, self._on_change), watched=True)
        self._work.looking.follow(self._wanted)
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

    def read_now(self, paths: Iterable[str], deadline_seconds: float) -> CatalogueState:
        """These files first, then the directories, as far as it goes until the deadline.

        For one-shot use of a catalogue that isn't started: nothing is watched, and a half-written file isn't waited for.
        """
        deadline = time.monotonic() + deadline_seconds
        work = self._work or _Work(self._directories, self._reader, Ledger(0.0, None), watched=False)
        work.looking.follow([*self._wanted, *paths])
        if work is self._work:
            return work.read_until(deadline)
        work.start()
        self._last = work.read_until(deadline)
        work.stop()
        return self._last


class _Work:
    """The two threads, and what they share."""

    def __init__(self, directories: Sequence[str], reader: HeaderReading, ledger: Ledger, watched: bool) -> None:
        self.ledger = ledger
        self.looking = Looking(directories, ledger, watched)
        self._reader = reader
        self._stopped = threading.Event()
        self._silent: dict[int, tuple[int, float]] = {}
        """Devices whose files hung: how many, and when last."""
        self._threads = [
            threading.Thread(target=work, name=f"gpumodels-catalogue-{name}", daemon=True)
            for name, work in (("looks", self.looking.run), ("reads", self._read))
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self.ledger.close()
        self._reader.close()
        self.looking.stop()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(STOP_SECONDS)

    def read_until(self, deadline: float) -> CatalogueState:
        self.looking.wait_until_looked(deadline)
        return self.ledger.wait_until_read(deadline)

    def _read(self) -> None:
        while (job := self.ledger.next_job()) is not None:
            try:
                self._read_one(job)
            except NoWorkerError as error:
                self.ledger.postponed(job, str(error))
                self.ledger.publish()
                if self._stopped.wait(AGAIN_SECONDS):
                    return
            else:
                self.ledger.publish()

    def _read_one(self, job: Job) -> None:
        device = job.stamp.device
        hung, hung_at = self._silent.get(device, (0, 0.0))
        if hung >= SILENT_AFTER_FILES and time.monotonic() - hung_at < AGAIN_SECONDS:
            self.ledger.failed(job, "its disk does not answer", again_seconds=AGAIN_SECONDS)
            return
        try:
            header = self._reader.read(job.real, job.suffix)
        except TimedOutError as error:
            self._silent[device] = (hung + 1, time.monotonic())
            self.ledger.failed(job, error.reason, again_seconds=AGAIN_SECONDS)
        except UnreadableError as error:
            self.ledger.failed(job, error.reason, error.unfinished)
        else:
            self._silent.pop(device, None)
            self.ledger.read(job, header)
