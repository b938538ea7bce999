"""Real terminals for tests: tmux on a socket of its own, keys in, screens out; and a bare one, whose bytes are read."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pty
import re
import select
import shlex
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

PATIENCE_SECONDS: Final = 30.0


class Terminal:
    """A shell in tmux that runs one command, says its exit code, and stays."""

    def __init__(self, directory: Path, command: list[str], columns: int = 80, lines: int = 24) -> None:
        self._socket = directory / "tmux"
        self._tmux("-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", str(lines), self._script(command))

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        subprocess.run(self._command("kill-server"), check=False, capture_output=True, timeout=PATIENCE_SECONDS)

    def press(self, *keys: str) -> None:
        """tmux's names of keys: `Enter`, `Escape`, `q`."""
        self._tmux("send-keys", *keys)

    def resize(self, columns: int, lines: int) -> None:
        """As if the window were dragged."""
        self._tmux("resize-window", "-x", str(columns), "-y", str(lines))

    def screen(self, styled: bool = False) -> str:
        """What it shows; `styled` with the sequences that say how."""
        return self._tmux("capture-pane", "-p", *(["-e"] if styled else []))

    def is_on_alternate_screen(self) -> bool:
        """Whether a full-screen program has it."""
        return self._tmux("display-message", "-p", "#{alternate_on}").strip() == "1"

    def mouse_is_captured(self) -> bool:
        """Whether clicks still go to a program."""
        return self._tmux("display-message", "-p", "#{mouse_any_flag}").strip() == "1"

    def accept_copies(self) -> None:
        """From now on programs may copy to its buffers; by default (`external`, from tmux 2.6 on) it drops what they copy."""
        self._tmux("set-option", "-s", "set-clipboard", "on")

    def copied(self) -> str:
        """What was copied last; empty if nothing was."""
        done = subprocess.run(self._command("show-buffer"), check=False, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
        return done.stdout

    def columns_of(self, word: str) -> list[int]:
        """In which column of the terminal it begins, as the terminal itself counts, line by line from the top."""
        self._tmux("copy-mode")
        self._tmux("send-keys", "-X", "top-line")
        self._tmux("send-keys", "-X", "start-of-line")
        places: list[tuple[int, int]] = []
        self._tmux("send-keys", "-X", "search-forward", word)
        while (place := self._copy_cursor()) not in places:
            places.append(place)
            self._tmux("send-keys", "-X", "search-again")
        self._tmux("send-keys", "-X", "cancel")
        return [column for column, _ in places]

    def _copy_cursor(self) -> tuple[int, int]:
        column, line = self._tmux("display-message", "-p", "#{copy_cursor_x} #{copy_cursor_y}").split()
        return int(column), int(line)

    def wait_for(self, *words: str) -> str:
        """The screen, once it shows all of them."""
        return self.wait_until(lambda screen: all(word in screen for word in words), f"no {words}")

    def wait_until(self, holds: Callable[[str], bool], complaint: str) -> str:
        """The screen, once it is as it should be."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not holds(screen := self.screen()):
            assert time.monotonic() < deadline, f"{complaint} within {PATIENCE_SECONDS} s; the screen:\n{screen}"
            time.sleep(0.02)
        return screen

    def exit_code(self) -> int:
        """Of the command, once it ended."""
        found = re.search(r"exit code (\d+)", self.wait_for("exit code"))
        assert found is not None
        return int(found[1])

    def settings(self) -> str:
        """What `stty -a` says after the command's end."""
        return self.wait_for("icanon")

    def _script(self, command: list[str]) -> str:
        return f"{shlex.join(command)}; echo exit code $?; stty -a; exec sleep 1000"

    def _command(self, *arguments: str) -> list[str]:
        return ["tmux", "-u", "-S", str(self._socket), *arguments]

    def _tmux(self, *arguments: str) -> str:
        environment = {name: value for name, value in os.environ.items() if name not in {"TMUX", "NO_COLOR"}}
        done = subprocess.run(
            self._command(*arguments),
            check=True,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=PATIENCE_SECONDS,
            env=environment | {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8"},
        )
        return done.stdout


@contextlib.contextmanager
def on_a_pty(
    command: list[str], until: bytes, *, leader: bool = True, columns: int = 80, lines: int = 24
) -> Iterator[tuple[subprocess.Popen[bytes], io.FileIO]]:
    """The command on a terminal of its own, once it wrote `until`; and the terminal's other end.

    A session's leader is told of the terminal's end.
    """
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    process = subprocess.Popen(
        [*(["setsid", "--ctty"] if leader else []), *command],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=os.environ | {"TERM": "xterm-256color"},
        preexec_fn=_heed_interrupts,
    )
    os.close(slave)
    with io.FileIO(master, "r+b") as terminal:
        try:
            read_until(terminal, until)
            yield process, terminal
        finally:
            process.kill()
            process.wait()


def _heed_interrupts() -> None:
    """What a shell starts in the background ignores them, and so does all that it starts in turn."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def read_until(terminal: io.FileIO, words: bytes) -> bytes:
    """What the terminal was sent, until these words; or, for none, until its end."""
    seen = b""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not words or words not in seen:
        assert time.monotonic() < deadline, seen[-2000:]
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                data = terminal.read(65536)
            except OSError:  # Linux says EIO when the other end is closed
                break
            if not data:
                break
            seen += data
    return seen
