"""The screens' driver: sends what differs, sleeps until something arrives, and knows a key from a piece of a sequence."""

from __future__ import annotations

import asyncio
import codecs
import os
import select
import shutil
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from textual.app import App
from textual.drivers.linux_driver import LinuxDriver

from gpumodels_tui.clipboard import COPY, also_through_tmux
from gpumodels_tui.plain_terminal import in_ascii, in_console_font
from gpumodels_tui.tty.direct import offer
from gpumodels_tui.tty.picture import Picture

READ_BYTES: Final = 4096


class ViewerDriver(LinuxDriver):
    """Textual's driver for Linux and macOS, except for what is sent to the terminal and how it is read."""

    is_in_tmux = False
    """Whether the terminal is a tmux on this machine, which passes on to the terminal around it only what is wrapped."""

    def __init__(self, app: App[Any], *, debug: bool = False, mouse: bool = True, size: tuple[int, int] | None = None) -> None:
        super().__init__(app, debug=debug, mouse=mouse, size=size)
        self._picture = Picture(0, 0)
        self._is_drawing = False
        """Whether the terminal is ours, so that all that is written belongs to the picture."""
        self._is_unknown = False
        """Whether the terminal may show something else than the picture says."""
        self._wakes: tuple[int, int] | None = None
        """The two ends of the pipe that wakes the thread that reads."""
        offer(app, self.draw)

    def start_application_mode(self) -> None:
        """Take the terminal."""
        self._wakes = os.pipe()
        super().start_application_mode()  # type: ignore[no-untyped-call]
        self._is_drawing = self._is_unknown = True
        if threading.current_thread() is threading.main_thread():
            resized = signal.getsignal(signal.SIGWINCH)
            loop = asyncio.get_running_loop()

            def forget(number: int, frame: FrameType | None) -> None:
                self._is_unknown = True  # terminals wrap, cut and move lines when their size changes
                if callable(resized):
                    resized(number, frame)
                loop.call_soon_threadsafe(self._draw_again)

            signal.signal(signal.SIGWINCH, forget)

    def stop_application_mode(self) -> None:
        """Give the terminal back."""
        self._is_drawing = False
        super().stop_application_mode()

    def disable_input(self) -> None:
        """End the thread that reads."""
        wakes, self._wakes = self._wakes, None
        if wakes is not None:
            os.write(wakes[1], b"\0")
        super().disable_input()
        for end in wakes or ():
            os.close(end)

    def write(self, data: str) -> None:
        """Send what differs from what the terminal shows. What copies changes nothing there."""
        if data.startswith(COPY):
            super().write(also_through_tmux(data) if self.is_in_tmux else data)
            return
        data = self.shown(data)
        if self._is_drawing:
            if self._is_unknown:
                self._is_unknown = False
                self._picture.forget(*shutil.get_terminal_size())
            data = self._picture.update(data)
        if data:
            super().write(data)

    def _draw_again(self) -> None:
        """Draw what is known if the terminal has the size that it had: Textual (8.2) lets such a resize pass."""
        if self._is_drawing and self._is_unknown and shutil.get_terminal_size() == (self._picture.columns, self._picture.lines):
            self.write("")

    def draw(self, data: str) -> bool:
        """Draw cells besides Textual, which draws them alike when it does. Returns whether the rest of the picture is there."""
        if not self._is_drawing or self._is_unknown:
            return False
        self.write(data)
        return True

    def shown(self, text: str) -> str:
        """The text in characters that this terminal can show."""
        return text

    def run_input_thread(self) -> None:
        """Turn what arrives into messages, until the driver is stopped or the terminal is gone."""
        wakes = self._wakes
        if wakes is None:
            return  # stopped already
        select.select((self.fileno, wakes[0]), (), ())
        # Nothing is pressed before the first drawing, so what understands keys is imported after it.
        from gpumodels_tui.tty.events import MessageReader
        from gpumodels_tui.tty.sequences import Sequences

        decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        sequences, reader = Sequences(), MessageReader()
        while not self.exit_event.is_set():
            until = sequences.deadline
            patience = None if until is None else max(until - time.monotonic(), 0.0)
            text = ""
            if self.fileno in select.select((self.fileno, wakes[0]), (), (), patience)[0]:
                try:
                    data = os.read(self.fileno, READ_BYTES)
                except OSError:
                    return
                if not data:
                    return
                text = decode(data)
            for sequence in sequences.feed(text, time.monotonic()):
                message = reader.message(sequence)
                if message is not None:
                    self.process_message(message)


def driver_for(ascii_only: bool, terminal: str, in_tmux: bool = False) -> type[ViewerDriver]:
    """The driver class for this terminal, which replaces characters that it can't show."""
    if ascii_only:
        return _replacing(in_ascii, in_tmux)
    if terminal in ("linux", "linux-16color"):
        return _replacing(in_console_font, in_tmux)
    return _replacing(None, in_tmux) if in_tmux else ViewerDriver


def _replacing(replace: Callable[[str], str] | None, in_tmux: bool) -> type[ViewerDriver]:
    class PlainDriver(ViewerDriver):
        """Replaces characters in everything that is written to the terminal."""

        is_in_tmux = in_tmux

        def shown(self, text: str) -> str:
            return text if replace is None else replace(text)

    return PlainDriver
