"""The viewer's end of the header worker: started by the first file, waited for only so long, replaced when it fails."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Final, Protocol

import msgspec

from gpumodels_shared.fingerprint import Match
from gpumodels_tui.headers.headers import FRAME, MAX_FRAME_BYTES, FileHeader, Reply, Request, UnreadableError, Wanted, frame

READ_SECONDS: Final = 5.0
"""The longest that one file may take."""

START_SECONDS: Final = 30.0
"""The longest that the worker's imports may take, on a cold disk."""

WANTED_AT_ONCE: Final = 250
"""Fingerprints in one request: a frame of a megabyte, and a fraction of a second where files are comparable at all."""

MAX_TOLD: Final = 2_000
"""Fingerprints that a worker holds, at some ten kilobytes each."""

KILL_SECONDS: Final = 0.5
"""How long a killed worker is waited for; one stuck in the kernel is left to it."""

WORKER: Final = (sys.executable, "-m", "gpumodels_tui.headers.header_worker")


class NoWorkerError(Exception):
    """No file can be read now, and none is to blame; the text says why."""


class TimedOutError(UnreadableError):
    """The file, or what it lies on, does not answer."""


@dataclass(frozen=True, slots=True)
class FileRead:
    """What one file said."""

    header: FileHeader | None
    """None where no reader recognises a file without a telling suffix."""
    matches: Sequence[Match | None] = ()
    """In the order of the wanted, see `Reply`."""


class HeaderReading(Protocol):
    """How the catalogue gets headers: through the worker, or a cache in front of it."""

    def read(self, path: str, suffix: str | None, wanted: Sequence[Wanted] = ()) -> FileRead:
        """The file's header, and how much of the first so many of the wanted fingerprints agrees with its values.

        Raises:
            UnreadableError: it has none, or doesn't give it.
            NoWorkerError: nothing can be read at present.
        """

    def compare(self, wanted: Sequence[Wanted], paths: Sequence[str], suffix: str | None) -> Sequence[Match | None]:
        """How much of the first so many of the wanted agrees with these files together; nothing where values can't be read.

        Raises:
            As `read`.
        """

    def close(self) -> None:
        """Let go of everything; may be called from another thread than the one that reads."""


class HeaderWorker:
    """One worker process, started by the first read. Reads come from one thread; only `close` may come from another."""

    def __init__(self, command: tuple[str, ...] = WORKER, read_seconds: float = READ_SECONDS) -> None:
        self._command = command
        self._read_seconds = read_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._complaints: IO[bytes] | None = None
        self._stuck: list[subprocess.Popen[bytes]] = []
        self._closed = threading.Event()
        self._reading = threading.Lock()
        self._told: set[int] = set()
        """The fingerprints that the present worker knows."""

    @property
    def pid(self) -> int | None:
        """The worker's pid, where there is one."""
        process = self._process
        return None if process is None else process.pid

    def read(self, path: str, suffix: str | None, wanted: Sequence[Wanted] = ()) -> FileRead:
        """See `HeaderReading`. A worker that died since the last file gets a successor; the file is to blame when both do."""
        with self._reading:
            reply = self._read(Request(os.fsencode(path), suffix), wanted)
        return FileRead(reply.header, reply.matches)

    def compare(self, wanted: Sequence[Wanted], paths: Sequence[str], suffix: str | None) -> Sequence[Match | None]:
        """See `HeaderReading`."""
        first, *others = map(os.fsencode, paths)
        with self._reading:
            return self._read(Request(first, suffix, is_read=False, others=tuple(others)), wanted).matches

    def close(self) -> None:
        """End the worker: at once, since its work is of no use to anyone; a read under way fails."""
        self._closed.set()
        process = self._process
        if process is not None:
            process.kill()
        if self._reading.acquire(timeout=KILL_SECONDS):
            self._discard()
            self._reading.release()

    def _read(self, request: Request, wanted: Sequence[Wanted]) -> Reply:
        wanted = wanted[:WANTED_AT_ONCE]
        for attempt in (1, 2):
            fresh = self._process is None
            process = self._process or self._start()
            try:
                reply = self._ask(process, self._with_wanted(request, wanted))
            except TimeoutError as error:
                self._discard()
                raise TimedOutError(f"no answer within {self._read_seconds:g} s") from error
            except (EOFError, OSError, msgspec.MsgspecError) as error:
                cause = self._discard(ended=True)
                if self._closed.is_set():
                    raise NoWorkerError("stopped") from error
                if fresh or attempt == 2:
                    raise UnreadableError(f"its reader ended while reading it: {cause or error}") from error
            else:
                if reply.reason is not None:
                    raise UnreadableError(reply.reason, reply.unfinished)
                return reply
        raise AssertionError("unreachable")

    def _with_wanted(self, request: Request, wanted: Sequence[Wanted]) -> bytes:
        """The request as this worker understands it: with the fingerprints that it wasn't told yet."""
        forget = len(self._told) > MAX_TOLD
        if forget:
            self._told.clear()
        told = tuple(one for one in wanted if one.number not in self._told)
        self._told.update(one.number for one in told)
        return frame(replace(request, wanted=tuple(one.number for one in wanted), told=told, forget=forget))

    def _ask(self, process: subprocess.Popen[bytes], request: bytes) -> Reply:
        assert process.stdin is not None
        deadline = time.monotonic() + self._read_seconds
        process.stdin.write(request)
        return _receive(process, deadline)

    def _start(self) -> subprocess.Popen[bytes]:
        if self._closed.is_set():
            raise NoWorkerError("stopped")
        self._stuck = [process for process in self._stuck if process.poll() is None]
        # It lives as long as the worker does; `_discard` closes it.
        complaints = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            # Its own session: Ctrl-C and Ctrl-Z are for the viewer. Not the current directory, which `-m` would import from.
            process = subprocess.Popen(
                self._command,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                cwd="/",
                env=_environment(),
                start_new_session=True,
            )
        except OSError as error:
            complaints.close()
            raise NoWorkerError(f"model files can't be read: no process for it ({error.strerror})") from error
        self._process, self._complaints = process, complaints
        if self._closed.is_set():  # by another thread, which saw no worker yet
            self._discard()
            raise NoWorkerError("stopped")
        try:
            _receive(process, time.monotonic() + START_SECONDS)
        except (TimeoutError, EOFError, OSError, msgspec.MsgspecError) as error:
            cause = self._discard(ended=isinstance(error, EOFError))
            raise NoWorkerError(f"model files can't be read: their reader does not start: {cause or error}") from error
        return process

    def _discard(self, ended: bool = False) -> str:
        """End this worker; where it has `ended` by itself, say how, in its own last words if it had any."""
        process, complaints = self._process, self._complaints
        self._process = self._complaints = None
        self._told.clear()
        cause = ""
        if process is not None:
            status = _wait(process) if ended else None
            if status is None:
                process.kill()
                if _wait(process) is None:
                    self._stuck.append(process)
            else:
                cause = _status_text(status)
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
        if complaints is not None:
            with complaints:
                complaints.seek(max(0, complaints.seek(0, os.SEEK_END) - 2000))
                lines = complaints.read().decode(errors="replace").strip().splitlines()
            if lines:
                # Python says last what happened; a library that aborts says it first.
                cause = lines[-1 if any(line.startswith("Traceback") for line in lines) else 0][:200]
        return cause


def _wait(process: subprocess.Popen[bytes]) -> int | None:
    try:
        return process.wait(KILL_SECONDS)
    except subprocess.TimeoutExpired:
        return None


def _receive(process: subprocess.Popen[bytes], deadline: float) -> Reply:
    assert process.stdout is not None
    descriptor = process.stdout.fileno()
    (length,) = FRAME.unpack(_read_exactly(descriptor, FRAME.size, deadline))
    if length > MAX_FRAME_BYTES:
        raise EOFError(f"a reply of {length} bytes")
    return msgspec.msgpack.decode(_read_exactly(descriptor, length, deadline), type=Reply)


def _read_exactly(descriptor: int, count: int, deadline: float) -> bytes:
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    received = bytearray()
    while len(received) < count:
        remaining = deadline - time.monotonic()
        if remaining <= 0 or not waiting.poll(remaining * 1000):
            raise TimeoutError
        data = os.read(descriptor, count - len(received))
        if not data:
            raise EOFError("ended")
        received += data
    return bytes(received)


def _environment() -> dict[str, str]:
    """Ours, with the places that we import from: the worker must find the same packages, and no others. One thread suffices."""
    places = os.pathsep.join(str(Path(place).absolute()) for place in sys.path if place)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), "1")
    return {**os.environ, **threads, "PYTHONPATH": places, "PYTHONSAFEPATH": "1"}


def _status_text(status: int) -> str:
    if status >= 0:
        return f"exit code {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
