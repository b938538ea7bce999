"""Plays a recording: where it is, how fast it goes, and the view of that moment. Stands in for `watching.WatchingThread`."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from operator import attrgetter
from typing import Final

from gpumodels_shared.records import replace
from gpumodels_shared.safe_text import safe_text
from gpumodels_tui.comparing.documents import Document
from gpumodels_tui.moments import UnknownMomentError, document_of
from gpumodels_tui.recording.lines import RecordingError
from gpumodels_tui.recording.reading import Cursor, Recording
from gpumodels_tui.recording.restoring import Sources
from gpumodels_tui.replaying.timeline_history import TimelineHistory
from gpumodels_tui.view.builder import ViewBuilder
from gpumodels_tui.view.rows import View

SPEEDS: Final = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 60.0, 240.0)
STEP_SECONDS: Final = 0.2
STOP_SECONDS: Final = 2.0
SECOND_NS: Final = 10**9
NOTHING: Final = View((), (), (), ())


class Player:
    """A thread of its own reads moments and builds views; any thread may ask and steer."""

    interval_seconds = 1.0

    def __init__(self, recording: Recording, *, at_its_end: bool, clock: Callable[[], float] = time.monotonic) -> None:
        """Args:
        recording: What is played.
        at_its_end: Whether to begin there, paused, instead of playing from its beginning.
        clock: Returns seconds.
        """
        self.recording = recording
        self.is_paused = at_its_end
        self._clock = clock
        self._position_ns = recording.ended_at_ns if at_its_end else recording.begun_at_ns
        self._moved_at = clock()
        self._speed = SPEEDS.index(1.0)
        self._lock = threading.Lock()
        self._view_lock = threading.Lock()
        """Only one thread at a time reads."""
        self._cursor = Cursor(recording)
        self._history = TimelineHistory(recording)
        self._builder = ViewBuilder()
        self._sources: Sources | None = None
        self._view: View | None = None
        self._times = [time_ns for member in recording.members for time_ns in member.times]
        self._listener: tuple[Callable[[View], None], Callable[[Exception], None]] | None = None
        self._failure: Exception | None = None
        self._stopping = threading.Event()
        self._wanted = threading.Event()
        self._thread = threading.Thread(target=self._play, name="gpumodels-replay", daemon=True)

    def start(self) -> None:
        """Begin to play."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread. May be called repeatedly."""
        self._stopping.set()
        self._wanted.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    def first(self, patience_seconds: float) -> View | None:
        """The view of the present moment."""
        return self.view_now()

    def tell(self, on_view: Callable[[View], None], on_failure: Callable[[Exception], None]) -> None:
        """Set the listener, and call it with the newest view or failure."""
        self._listener = on_view, on_failure
        if self._view is not None:
            on_view(self._view)
        if self._failure is not None:
            on_failure(self._failure)

    def around(self, at_ns: int) -> tuple[Document, Document]:
        """What the recording says of the last moment before this one, and of the one that is shown.

        Raises:
            UnknownMomentError: the recording can't be read there.
        """
        cursor = Cursor(self.recording)
        host = self.recording.hosts[0] if self.recording.hosts else None
        try:
            return self._document(cursor, at_ns - 1, host), self._document(cursor, self.position_ns(), host)
        except (RecordingError, OSError) as error:
            raise UnknownMomentError(str(error)) from error

    @staticmethod
    def _document(cursor: Cursor, at_ns: int, host: str | None) -> Document:
        taken_ns, (feed, hardware, _) = cursor.at(at_ns)
        return document_of(feed, hardware, taken_ns, host)

    @property
    def speed(self) -> float:
        """Seconds of the recording in a second."""
        return SPEEDS[self._speed]

    @property
    def is_at_its_end(self) -> bool:
        """Whether there is nothing more to play."""
        return self.position_ns() >= self.recording.ended_at_ns

    def position_ns(self) -> int:
        """The moment that is shown, realtime nanoseconds."""
        with self._lock:
            return self._advanced()

    def is_in_a_gap(self) -> bool:
        """Whether nobody was recording at the moment that is shown."""
        return self._gap_end(self.position_ns()) is not None

    def pause(self) -> None:
        """Pause, or go on; from the end, begin again."""
        with self._lock:
            self._advanced()
            if self.is_paused and self._position_ns >= self.recording.ended_at_ns:
                self._position_ns = self.recording.begun_at_ns
            self.is_paused = not self.is_paused
        self._wanted.set()

    def faster(self, step: int) -> float:
        """Change the speed by so many steps; the new one."""
        with self._lock:
            self._advanced()
            self._speed = min(max(self._speed + step, 0), len(SPEEDS) - 1)
        return self.speed

    def seek(self, seconds: float) -> None:
        """Go forwards, or backwards if negative; no further than the recording goes."""
        self.go_to(self.position_ns() + int(seconds * SECOND_NS))

    def go_to(self, at_ns: int) -> None:
        """Show this moment."""
        with self._lock:
            self._position_ns = min(max(at_ns, self.recording.begun_at_ns), self.recording.ended_at_ns)
            self._moved_at = self._clock()
        self._wanted.set()

    def go_to_event(self, step: int) -> bool:
        """Go to the next event, or the previous one if negative. Returns whether there is one."""
        events, here = self.recording.events, self.position_ns()
        low = bisect_left(events, self.recording.begun_at_ns, key=attrgetter("at_ns"))
        find = bisect_right if step > 0 else bisect_left
        number = find(events, here, key=attrgetter("at_ns")) - (step < 0)
        if not low <= number < len(events):
            return False
        self.go_to(events[number].at_ns)
        return True

    def view_now(self) -> View:
        """The view of the present moment; the identical object while nothing is new."""
        with self._view_lock:
            return self._view_at(self.position_ns())

    def _view_at(self, position: int) -> View:
        sources, problems = None, list(self.recording.problems)
        try:
            _, sources = self._cursor.at(position)
        except (RecordingError, OSError) as error:
            problems.append(str(error))
        history = self._history.at(position)
        if self._view is None or self._sources is not sources:
            self._sources = sources
            built = NOTHING if sources is None else self._builder.build(*sources)
            self._view = replace(built, warnings=(*map(safe_text, problems), *built.warnings), history=history)
        elif self._view.history is not history:
            self._view = replace(self._view, history=history)
        return self._view

    def _advanced(self) -> int:
        """Move on for the time that has passed. Times that weren't recorded are passed over."""
        now = self._clock()
        passed, self._moved_at = now - self._moved_at, now
        if not self.is_paused:
            self._position_ns += int(passed * self.speed * SECOND_NS)
            if (end := self._gap_end(self._position_ns)) is not None:
                self._position_ns = end
            if self._position_ns >= self.recording.ended_at_ns:
                self._position_ns, self.is_paused = self.recording.ended_at_ns, True
        return self._position_ns

    def _gap_end(self, at_ns: int) -> int | None:
        """When recording went on after a time that has this moment in it and wasn't recorded."""
        after = bisect_right(self._times, at_ns)
        if not 0 < after < len(self._times) or self._times[after] - self._times[after - 1] <= self.recording.gap_ns:
            return None
        return self._times[after] if at_ns > self._times[after - 1] + self.recording.every_seconds * SECOND_NS else None

    def _play(self) -> None:
        try:
            last = None
            while not self._stopping.is_set():
                view = self.view_now()
                if view is not last and self._listener is not None:
                    self._listener[0](view)
                    last = view
                self._wanted.wait(STEP_SECONDS)
                self._wanted.clear()
        except Exception as error:  # noqa: BLE001  # the screen must report any error rather than silently stop updating
            self._failure = error
            if self._listener is not None:
                self._listener[1](error)
