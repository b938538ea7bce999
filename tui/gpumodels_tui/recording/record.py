"""The command `gpumodels-tui record`: records to a file until it is told to end, and keeps the ring."""

from __future__ import annotations

import contextlib
import gc
import signal
import sys
import threading
from pathlib import Path
from typing import Final

from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.units import format_bytes
from gpumodels_tui.recording.files import create
from gpumodels_tui.recording.keeping import RingKeeper
from gpumodels_tui.recording.lines import RecordingError
from gpumodels_tui.recording.sampling import Moments
from gpumodels_tui.recording.writing import RecordingWriter
from gpumodels_tui.sources.opening import Sources
from gpumodels_tui.view.rows import View
from gpumodels_tui.watching import WatchingThread

TREE_BYTES: Final = 4 * 1024**2
"""Of layer trees in one moment of a file."""


def record(sources: Sources, path: Path | None, every_seconds: float, limit_bytes: int, ring: Path | None) -> int:
    """Record until SIGTERM or SIGINT, or until the file is as large as it may become.

    Args:
        sources: What is read.
        path: The file; None keeps the ring only.
        every_seconds: How often a moment is recorded; events are recorded as they happen.
        limit_bytes: The most bytes in the file.
        ring: The directory of the ring; None keeps none.

    Returns:
        The exit code: 0; 1 with a line on stderr if it can't record.
    """
    gc.freeze()
    gc.enable()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: ended.set())
    with contextlib.ExitStack() as opened:
        writer = None
        if path is not None:
            try:
                writer = RecordingWriter(create(path), limit_bytes, every_seconds)
            except RecordingError as error:
                return _say(f"error: {error}", 1)
            opened.callback(writer.close)
        thread = WatchingThread(sources)
        moments = Moments(thread, TREE_BYTES)
        keeper = None if ring is None else RingKeeper(thread, ring, _warn)
        failures: list[Exception] = []

        def see(view: View) -> None:
            moments.see(view)
            if keeper is not None:
                keeper.moments.see(view)

        def fail(error: Exception) -> None:
            failures.append(error)
            ended.set()

        thread.start()
        opened.callback(thread.stop)
        thread.tell(see, fail)
        if keeper is not None:
            keeper.start()
            opened.callback(keeper.stop)
        code = _record(moments, writer, path, every_seconds, ended)
        if failures:
            return _say(f"error: stopped reading: {type(failures[0]).__name__}: {failures[0]}", 1)
        return code


def _record(
    moments: Moments, writer: RecordingWriter | None, path: Path | None, every_seconds: float, ended: threading.Event
) -> int:
    _say(f"recording{f' to {path}' if path is not None else ''}; Ctrl-C ends it", 0)
    is_last = False
    while not is_last:
        is_last = ended.wait(every_seconds)
        moment = moments.take()
        if writer is None or moment is None:
            continue
        try:
            if not writer.write(moment.at_ns, moment.document, moment.events, moment.used):
                return _say(f"{path} has the {format_bytes(writer.limit_bytes)} that it may have; the recording is complete", 0)
        except OSError as error:
            return _say(f"error: cannot write {path}: {(error.strerror or str(error)).lower()}", 1)
    return 0


def _warn(line: str) -> None:
    _say(f"warning: {line}", 0)


def _say(line: str, code: int) -> int:
    if sys.stderr is not None:
        sys.stderr.write(f"gpumodels-tui: {safe_text(line)}\n")
        sys.stderr.flush()
    return code
