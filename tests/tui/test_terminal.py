"""The terminal: found whatever was redirected, left in order when a signal says so, and asked whether it is still there."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from gpumodels_tui import terminal
from gpumodels_tui.terminal import exit_soon, is_gone, is_writable, leave_on_signals, on_the_terminal

WITHIN_SECONDS = 30.0


class OwnTerminal:
    """A terminal of the test's, and the three descriptors of a process on it."""

    def __init__(self, opened: ExitStack) -> None:
        self._opened = opened
        self.screen, keyboard = pty.openpty()
        opened.callback(os.close, self.screen)
        self.stdin, self.stdout, self.stderr = (self.owning(os.dup(keyboard)) for _ in range(3))
        os.close(keyboard)

    def owning(self, descriptor: int) -> int:
        self._opened.callback(os.close, descriptor)
        return descriptor

    def redirect(self, descriptor: int, path: Path) -> None:
        """As a shell does it."""
        file = os.open(path, os.O_RDWR | os.O_CREAT)
        os.dup2(file, descriptor)
        os.close(file)


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnTerminal]:
    with ExitStack() as opened:
        own = OwnTerminal(opened)
        for name in ("STDIN", "STDOUT", "STDERR"):
            monkeypatch.setattr(terminal, name, getattr(own, name.lower()))
        yield own


def test_what_was_redirected_is_the_terminal_for_as_long_as_it_is_drawn_on(own: OwnTerminal, tmp_path: Path) -> None:
    log = tmp_path / "log"
    own.redirect(own.stdin, Path(os.devnull))
    own.redirect(own.stderr, log)
    with on_the_terminal():
        assert os.isatty(own.stdin)
        os.write(own.stderr, b"drawn")
        assert os.read(own.screen, 100) == b"drawn"
    os.write(own.stderr, b"logged")
    assert log.read_bytes() == b"logged"
    assert not os.isatty(own.stdin)


def test_what_was_redirected_is_given_back_after_a_failure_too(own: OwnTerminal, tmp_path: Path) -> None:
    own.redirect(own.stderr, tmp_path / "log")
    before = os.fstat(own.stderr)
    with pytest.raises(RuntimeError, match="in the middle"), on_the_terminal():
        raise RuntimeError("in the middle")
    assert os.path.samestat(os.fstat(own.stderr), before)


def test_a_process_that_is_on_its_terminal_already_is_left_alone(own: OwnTerminal, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(os, "dup2", lambda *_: pytest.fail("moved"))
        with on_the_terminal():
            pass
    assert os.isatty(own.stderr)


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[None]]:
    """Notes each time that the process would be ended in a while; gives the signals their own meanings back."""
    noted: list[None] = []
    monkeypatch.setattr(terminal, "exit_soon", lambda: noted.append(None))
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCONT)}
    yield noted
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_leaves_in_order_by_the_event_loop(patience: list[None], number: signal.Signals) -> None:
    left = asyncio.Event()
    with leave_on_signals(left.set):
        signal.raise_signal(number)
        assert not left.is_set()  # a signal handler runs in the middle of anything
        await asyncio.wait_for(left.wait(), WITHIN_SECONDS)
    assert len(patience) == (number is signal.SIGHUP)  # only then is the terminal gone


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_without_an_event_loop_ends_the_process_without_a_complaint(
    patience: list[None], number: signal.Signals
) -> None:
    with pytest.raises(SystemExit) as ended, leave_on_signals(lambda: pytest.fail("there is nothing to leave")):
        signal.raise_signal(number)
    assert ended.value.code == 0


def test_signals_mean_what_they_meant_before_afterwards(patience: list[None]) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    with leave_on_signals(lambda: None):
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] != before
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] == before


def test_after_a_hangup_nothing_takes_the_terminal_back(patience: list[None]) -> None:
    taken: list[int] = []
    signal.signal(signal.SIGCONT, lambda number, frame: taken.append(number))
    with pytest.raises(SystemExit), leave_on_signals(lambda: None):
        signal.raise_signal(signal.SIGHUP)
    signal.raise_signal(signal.SIGCONT)
    assert taken == []


def test_a_process_that_hangs_is_ended_from_a_thread_that_keeps_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    ended, codes = threading.Event(), []

    def end(code: int) -> None:
        codes.append((code, threading.current_thread().daemon))
        ended.set()

    monkeypatch.setattr(terminal, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(os, "_exit", end)
    exit_soon()
    assert ended.wait(WITHIN_SECONDS)
    assert codes == [(0, True)]


def test_a_terminal_that_takes_no_more_does_not_keep_up_until_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, stderr = os.pipe()  # the kernel empties a terminal's own buffers whenever it likes
    monkeypatch.setattr(terminal, "STDERR", stderr)
    assert is_writable()
    os.set_blocking(stderr, False)
    sent = os.write(stderr, bytes(1 << 20))
    assert not is_writable()
    assert len(os.read(screen, sent)) == sent
    assert is_writable()
    os.close(screen)
    os.close(stderr)


def test_what_nobody_can_wait_for_keeps_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    closed = os.open(tmp_path, os.O_RDONLY)
    os.close(closed)
    for descriptor in (closed, -1):
        monkeypatch.setattr(terminal, "STDERR", descriptor)
        assert is_writable()


def test_a_terminal_is_gone_when_its_window_was_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, keyboard = pty.openpty()
    monkeypatch.setattr(terminal, "STDIN", keyboard)
    assert not is_gone()
    os.close(screen)
    assert is_gone()
    os.close(keyboard)
