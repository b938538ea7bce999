"""The driver, on terminals of its own: what is sent, what is typed over slow lines, and how soon Escape works."""

from __future__ import annotations

import io
import os
import re
import select
import signal
import sys
import time
from collections.abc import Iterator
from typing import Final

import pytest
from textual.drivers.linux_driver import LinuxDriver

from gpumodels_tui.tty.driver import ViewerDriver, driver_for
from snapshots import GIB, a_device, a_model, a_snapshot, published
from terminals import on_a_pty

MOVED: Final = "\x1b[<35;30;20M"
PIECES_SECONDS: Final = 0.25


def test_terminals_without_all_characters_get_others() -> None:
    assert driver_for(False, "xterm-256color") is ViewerDriver
    for chosen, shown in (
        (driver_for(True, "xterm-256color"), "wan#~"),
        (driver_for(False, "linux"), "wan█~"),
        (driver_for(False, "xterm"), "wan█…"),
    ):
        assert chosen.shown(chosen.__new__(chosen), "wan█…") == shown


def test_only_in_tmux_a_copy_is_sent_a_second_time_for_the_terminal_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(LinuxDriver, "write", lambda _self, data: written.append(data))
    for in_tmux in (False, True):
        chosen = driver_for(False, "screen-256color", in_tmux)
        chosen.write(chosen.__new__(chosen), "\x1b]52;c;d2Fu\a")
    assert written == ["\x1b]52;c;d2Fu\a", "\x1b]52;c;d2Fu\a\x1bPtmux;\x1b\x1b]52;c;d2Fu\a\x1b\\"]


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[io.FileIO]:
    """The terminal of a viewer that shows one model, `wan`."""
    directory = tmp_path_factory.mktemp("files")
    directory.chmod(0o700)
    snapshot = a_snapshot(a_model("wan", GIB, device="cpu"), devices=[a_device("cpu", GIB)])
    writer = published(directory, snapshot)
    command = [sys.executable, "-m", "gpumodels_tui", "--dir", str(directory), "--models", str(directory)]
    with on_a_pty(command, b"Filter", columns=100, lines=30) as (_, terminal):
        sent(terminal, 1.0)
        yield terminal
    writer.close()


def sent(terminal: io.FileIO, seconds: float) -> str:
    """All that is sent until nothing has come for so long."""
    data = b""
    while select.select([terminal], [], [], seconds)[0]:
        data += terminal.read(65536)
    return data.decode()


def typed(terminal: io.FileIO, *pieces: str) -> str:
    """What is sent after these pieces, with a quarter of a second between them."""
    for piece in pieces[:-1]:
        os.write(terminal.fileno(), piece.encode())
        time.sleep(PIECES_SECONDS)
    os.write(terminal.fileno(), pieces[-1].encode())
    return sent(terminal, 0.5)


@pytest.mark.slow
def test_escape_alone_is_answered_within_fifty_milliseconds(viewer: io.FileIO) -> None:
    taken = []
    for _ in range(5):
        assert "/" in typed(viewer, "/")
        started = time.perf_counter()
        os.write(viewer.fileno(), b"\x1b")
        assert select.select([viewer], [], [], 5)[0]
        taken.append(time.perf_counter() - started)
        sent(viewer, 0.3)
    assert sorted(taken)[len(taken) // 2] < 0.05, taken


@pytest.mark.slow
@pytest.mark.parametrize("cut", [2, 3, 5, 9, len(MOVED) - 1])
def test_a_report_of_the_mouse_in_pieces_is_not_typed(viewer: io.FileIO, cut: int) -> None:
    typed(viewer, "/", "w")
    shown = typed(viewer, MOVED[:cut], MOVED[cut:])
    assert not re.search(r"[<;]35|30;20", re.sub(r"\x1b\[[\d;]*[A-Za-z]", "", shown))
    assert "a" in typed(viewer, "a")
    typed(viewer, "\x1b")


@pytest.mark.slow
@pytest.mark.parametrize("cut", [1, 2, 3, 5, 9])
def test_a_reply_in_pieces_opens_nothing(viewer: io.FileIO, cut: int) -> None:
    reply = "\x1b[?2026;2$y"
    assert "Keys " not in typed(viewer, reply[:cut], reply[cut:]), "the title of the help, which is drawn whenever it opens"
    assert "Keys " in typed(viewer, "?")
    typed(viewer, "\x1b")


@pytest.mark.slow
def test_a_terminal_that_had_another_size_for_a_moment_is_drawn_again(viewer: io.FileIO) -> None:
    sent(viewer, 0.5)
    os.killpg(os.tcgetpgrp(viewer.fileno()), signal.SIGWINCH)  # two resizes may be one signal, after which the size is as before
    shown = sent(viewer, 1.0)
    assert "\x1b[2J" in shown
    assert "wan" in shown
    assert "Filter" in shown


@pytest.mark.slow
def test_what_stays_is_not_sent_again(viewer: io.FileIO) -> None:
    assert len(typed(viewer, "?")) > 300
    assert 300 < len(typed(viewer, "\x1b")) < 4000
