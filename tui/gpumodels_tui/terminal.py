"""The terminal that the screens are drawn on: works with redirected streams, and exits cleanly on signals or when it closes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final

STDIN: Final = 0
STDOUT: Final = 1
STDERR: Final = 2
PATIENCE_SECONDS: Final = 3.0


@contextlib.contextmanager
def on_the_terminal() -> Iterator[None]:
    """Use the terminal on stdout for reading keys and for drawing, even with `2>log` or `</dev/null`.

    Textual draws on stderr, and an stdin at its end would keep it busy for nothing.
    """
    redirected = [descriptor for descriptor in (STDIN, STDERR) if not os.isatty(descriptor)]
    saved = {descriptor: os.dup(descriptor) for descriptor in redirected}
    try:
        for descriptor in redirected:
            os.dup2(STDOUT, descriptor)
        yield
    finally:
        for descriptor, copy in saved.items():
            os.dup2(copy, descriptor)
            os.close(copy)


@contextlib.contextmanager
def leave_on_signals(leave: Callable[[], None]) -> Iterator[None]:
    """On SIGTERM and SIGHUP, call `leave` in the event loop; when no loop is running, exit the process."""

    def end(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            # SIGCONT is sent with it, on which Textual would use the terminal that no longer exists.
            signal.signal(signal.SIGCONT, _nothing)
            exit_soon()
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise SystemExit(0) from None
        loop.call_soon_threadsafe(leave)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_soon() -> None:
    """Exit the process after `PATIENCE_SECONDS` if it still runs then: a write to a terminal that is gone may hang."""
    timer = threading.Timer(PATIENCE_SECONDS, os._exit, [0])
    timer.daemon = True
    timer.start()


def is_writable() -> bool:
    """Whether the terminal can be written to without waiting. Otherwise new frames would only queue behind older ones."""
    try:
        return bool(select.select((), (STDERR,), (), 0)[1])
    except (OSError, ValueError):
        return True  # not something that select can wait for


def is_gone() -> bool:
    """Whether the terminal was closed. This may happen without a signal, and then stdin would be at its end for ever."""
    return not os.isatty(STDIN)


def _nothing(number: int, frame: FrameType | None) -> None:
    """A signal handler that replaces the default action by none."""
