"""The terminal that the screens are drawn on: found whatever was redirected, left in order when it closes or a signal says so."""

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
    """Keys are read from, and Textual draws on, the terminal that stdout is: `2>log` and `</dev/null` change nothing about it.

    Textual draws on stderr, and an stdin that ends at once would keep it busy for nothing.
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
def signals_meaning(leave: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGHUP leave in order, by `leave`, called in the event loop; before and after it they end the process."""

    def end(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            # With it comes a SIGCONT, at which Textual would take the terminal that is no more.
            signal.signal(signal.SIGCONT, _nothing)
            end_soon()
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


def end_soon() -> None:
    """End the process in some seconds, if it hasn't ended by then: for when the terminal is gone, and a write to it may hang."""
    timer = threading.Timer(PATIENCE_SECONDS, os._exit, [0])
    timer.daemon = True
    timer.start()


def keeps_up() -> bool:
    """Whether the terminal takes what it is sent. While it doesn't, newer pictures would only queue behind older ones."""
    try:
        return bool(select.select((), (STDERR,), (), 0)[1])
    except (OSError, ValueError):
        return True  # nothing that one could wait for


def is_gone() -> bool:
    """Whether the terminal was closed: without a signal to us, its keyboard would be read at its end for ever."""
    return not os.isatty(STDIN)


def _nothing(number: int, frame: FrameType | None) -> None:
    """No default action, no action."""
