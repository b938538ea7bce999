"""The command `gpumodels-tui --follow`: prints a line for each event until its reader is gone, or it is told to end."""

from __future__ import annotations

import gc
import signal
import sys
import threading
import time
from operator import attrgetter
from typing import Final

from gpumodels_shared.safe_text import safe_text
from gpumodels_tui.json_output import document
from gpumodels_tui.oneshot import Snapshots
from gpumodels_tui.recording.lines import RecordingError
from gpumodels_tui.recording.reading import Cursor, read_recording
from gpumodels_tui.recording.ring import ring_directory, ring_files
from gpumodels_tui.settings.moments import since_ns
from gpumodels_tui.sources.opening import Sources
from gpumodels_tui.streaming.event_lines import EventLines, lag_line
from gpumodels_tui.streaming.line_queue import LineQueue
from gpumodels_tui.streaming.recorded_lines import recorded_lines
from gpumodels_tui.streaming.stage_events import StageChanges, StageEvent, stage_events_since
from gpumodels_tui.view.builder import build_view
from gpumodels_tui.view.changes import Changes
from gpumodels_tui.view.events import Event
from gpumodels_tui.view.filtering import filtered
from gpumodels_tui.view.filters import NO_FILTERS, Filters
from gpumodels_tui.view.rows import View
from gpumodels_tui.watching import WatchingThread

CHECK_SECONDS: Final = 0.25
"""How often it is checked whether anybody reads."""
LAST_LINES_SECONDS: Final = 1.0
"""How long lines that wait for a slow reader are still written at the end."""


def follow(
    sources: Sources,
    interval_seconds: float,
    since: str | None = None,
    state_seconds: float | None = None,
    filters: Filters = NO_FILTERS,
) -> int:
    """Follow until stdout has no reader, or until SIGTERM.

    Args:
        sources: What is read.
        interval_seconds: How often the devices are polled; the sidecars' files are polled four times as often.
        since: Begin with what is known of the time from here on: an age or a moment.
        state_seconds: How often to print the whole document; None for never.
        filters: Only what they choose.

    Returns:
        The exit code: 0; 1 with a line on stderr if it can't read or write any more.
    """
    gc.freeze()
    gc.enable()
    thread = WatchingThread(sources, interval_seconds)
    try:
        begin_ns = since_ns(since, time.time_ns()) if since else None
    except ValueError as error:
        _say(f"--since: {error}")
        return 2
    stream = _Stream(LineQueue(sys.stdout.fileno(), lag_line), thread, begin_ns, filters)
    signal.signal(signal.SIGTERM, lambda _number, _frame: stream.ended.set())
    stream.begin()
    thread.start()
    thread.tell(stream.see, stream.fail)
    try:
        stream.run(state_seconds)
        stream.lines.close(LAST_LINES_SECONDS)
    finally:
        thread.stop()
    if stream.failure is not None:
        return _say(f"stopped reading: {type(stream.failure).__name__}: {stream.failure}")
    failure = stream.lines.failure
    if failure is not None and not isinstance(failure, BrokenPipeError):
        return _say(f"can't write to stdout: {(failure.strerror or str(failure)).lower()}")
    return 0


class _Stream:
    """Turns views into lines, in the watching thread, which never waits for their reader."""

    def __init__(self, lines: LineQueue, thread: WatchingThread, since_ns: int | None, filters: Filters) -> None:
        self.lines = lines
        self._thread = thread
        self._since_ns = since_ns
        self._filters = filters
        self._changes = Changes()
        self._stages = StageChanges()
        self._events = EventLines()
        self._lock = threading.Lock()
        self._has_begun = threading.Event()
        self.ended = threading.Event()
        self.failure: Exception | None = None

    def begin(self) -> None:
        """Put the first line."""
        self._put(self._events.began())

    def see(self, view: View) -> None:
        """Put what is new. Devices that aren't known yet would seem to appear later, and models to move there."""
        if not self._thread.has_read_devices:
            return
        view = filtered(view, self._filters)
        with self._lock:
            is_first = not self._has_begun.is_set()
            if is_first and self._since_ns is not None and self._put_recorded(self._since_ns, view.directories):
                self._since_ns = None  # what happened since then is the difference to the last moment that was recorded
            self._events.see(view)
            now_ns = time.time_ns()
            events, stages = self._changes.see(view, now_ns), self._stages.see(view)
            if is_first and self._since_ns is not None:
                events, stages = self._changes.earlier(self._since_ns), stage_events_since(view, self._since_ns)
            news: list[Event | StageEvent] = [*stages, *events]
            for one in sorted(news, key=attrgetter("at_ns")):
                self._put(self._events.of_stage(one) if isinstance(one, StageEvent) else self._events.of(one))
            self._has_begun.set()

    def fail(self, error: Exception) -> None:
        """End, because nothing can be read any more."""
        self.failure = error
        self.ended.set()

    def run(self, state_seconds: float | None) -> None:
        """Wait for the end, and put whole documents meanwhile."""
        due = time.monotonic()
        while not self.lines.ended.is_set() and not self.lines.has_no_reader():
            if state_seconds is not None and time.monotonic() >= due and self._has_begun.is_set():
                due = max(due + state_seconds, time.monotonic())
                self._put_state()
            left = CHECK_SECONDS if state_seconds is None else min(CHECK_SECONDS, max(due - time.monotonic(), 0.01))
            if self.ended.wait(left):
                return

    def _put_recorded(self, since_ns: int, directories: tuple[str, ...]) -> bool:
        """Put what a service recorded of these directories. Returns whether one did, at that time or later."""
        try:
            recording = read_recording(ring_files(ring_directory()))
            view = filtered(build_view(*Cursor(recording).at(recording.ended_at_ns)[1]), self._filters)
            if recording.ended_at_ns < since_ns or view.directories != directories:
                return False
            for line in recorded_lines(recording, self._events, since_ns, self._filters):
                self._put(line)
        except RecordingError:
            return False
        self._events.see(view)
        for stage in stage_events_since(view, since_ns):
            self._put(self._events.of_stage(stage))
        self._changes.see(view, recording.ended_at_ns)
        self._stages.see(view)
        return True

    def _put_state(self) -> None:
        seen = self._thread.seen
        if seen is not None:
            whole = document(Snapshots(*seen, time.time_ns()), self._filters)
            with self._lock:
                self._put(self._events.state(whole))

    def _put(self, line: bytes | None) -> None:
        if line is not None:
            self.lines.put(self._events.number, line)


def _say(problem: str) -> int:
    if sys.stderr is not None:
        sys.stderr.write(f"gpumodels-tui: error: {safe_text(problem)}\n")
    return 1
