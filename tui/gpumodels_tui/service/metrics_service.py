"""The command `gpumodels-tui metrics`: serves metrics until it is told to end, or writes them once for node_exporter."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import stat
import sys
import threading
from pathlib import Path

from prometheus_client import CollectorRegistry, write_to_textfile

from gpumodels_shared.safe_text import safe_text
from gpumodels_tui.recording.keeping import RingKeeper
from gpumodels_tui.service.answers import Answers
from gpumodels_tui.service.listener import Listener, ListenError, listen, listen_unix
from gpumodels_tui.service.metric_families import Choices, ModelMetrics
from gpumodels_tui.service.observed import Observer, observed_once
from gpumodels_tui.sources.opening import Sources
from gpumodels_tui.watching import WatchingThread


def serve(sources: Sources, version: str, choices: Choices, address: str | Path, ring: Path | None = None) -> int:
    """Serve until SIGTERM or SIGINT.

    Args:
        sources: What is read.
        version: This program's.
        choices: What the series tell.
        address: `host:port`, or the path of a Unix socket.
        ring: Where to keep the last 24 hours, for `--history`; None to keep none.

    Returns:
        The exit code: 0 after a signal; 1 with a line on stderr if it can't listen, or can't read any more.
    """
    gc.freeze()
    gc.enable()  # the command line turns it off, for what is printed once
    thread = WatchingThread(sources)
    keeper = None if ring is None else RingKeeper(thread, ring, lambda line: _say(f"warning: {line}"))
    observer = Observer(thread, choices.filters, *(() if keeper is None else (keeper.moments.see,)))
    answers = Answers(observer, ModelMetrics(observer.observed, version, choices), choices.filters)
    try:
        listener = listen_unix(address, answers) if isinstance(address, Path) else listen(address, answers)
    except ListenError as error:
        _say(f"error: {error}")
        return 1
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: observer.ended.set())
    thread.start()
    with contextlib.closing(_Serving(listener)):
        _say(f"serving metrics on {_shown(address, listener)}")
        if keeper is not None:
            keeper.start()
        observer.ended.wait()
    if keeper is not None:
        keeper.stop()
    thread.stop()
    if observer.failure is not None:
        _say(f"error: stopped reading: {type(observer.failure).__name__}: {observer.failure}")
        return 1
    return 0


def write_textfile(sources: Sources, version: str, choices: Choices, path: Path) -> int:
    """Write all metrics to the file at once, so that a reader sees the old ones or the new ones. Returns the exit code.

    Only an ordinary file is replaced: writing to `/dev/stdout` in this way would remove it.
    """
    if os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):
        _say(f"error: cannot write {path}: it is no ordinary file, and would be replaced by one")
        return 1
    registry = CollectorRegistry(auto_describe=False)
    seen = observed_once(sources)
    registry.register(ModelMetrics(lambda: seen, version, choices))
    try:
        write_to_textfile(str(path), registry)
    except OSError as error:
        _say(f"error: cannot write {path}: {error.strerror or error}")
        return 1
    return 0


class _Serving:
    """A listener in a thread of its own, which ends with `close`."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._thread = threading.Thread(target=listener.serve_forever, name="gpumodels-metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown()
        self._thread.join()
        self._listener.server_close()


def _shown(address: str | Path, listener: Listener) -> str:
    """The address as it turned out to be: port 0 is any free one."""
    if isinstance(address, Path):
        return f"unix:{address}"
    host, port = str(listener.server_address[0]), listener.server_address[1]
    return f"http://[{host}]:{port}/metrics" if ":" in host else f"http://{host}:{port}/metrics"


def _say(line: str) -> None:
    sys.stderr.write(f"gpumodels-tui: {safe_text(line)}\n")
    sys.stderr.flush()
