"""The viewer's side of the header worker: starts it for the first file, limits its time, and replaces it when it fails."""

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
"""The longest time that reading one file may take."""

START_SECONDS: Final = 30.0
"""The longest time that the worker's imports may take, which is needed on a cold disk."""

WANTED_AT_ONCE: Final = 250
"""The most fingerprints in one request: a frame of a megabyte, and at most a fraction of a second to compare."""

MAX_SENT: Final = 2_000
"""The most fingerprints that a worker holds, at some ten kilobytes each."""

KILL_SECONDS: Final = 0.5
"""How long to wait for a killed worker to end; one that hangs in the kernel is abandoned."""

WORKER: Final = (sys.executable, "-m", "gpumodels_tui.headers.header_worker")


class NoWorkerError(Exception):
    """No file can be read at present, whichever it is; the text says why."""


class TimedOutError(UnreadableError):
    """The file or its disk does not answer."""


@dataclass(frozen=True, slots=True)
class FileRead:
    """The result of reading one file."""

    header: FileHeader | None
    """None if the file has no known suffix and no reader recognises it."""
    matches: Sequence[Match | None] = ()
    """In the order of the wanted fingerprints, see `Reply`."""


class HeaderReading(Protocol):
    """The interface through which the catalogue reads headers."""

    def read(self, path: str, suffix: str | None, wanted: Sequence[Wanted] = ()) -> FileRead:
        """Read the file's header, and compare its values with as many of the wanted fingerprints as time allows.

        Raises:
            UnreadableError: the file has no header, or it can't be read.
            NoWorkerError: no file can be read at present.
        """

    def compare(self, wanted: Sequence[Wanted], paths: Sequence[str], suffix: str | None) -> Sequence[Match | None]:
        """Compare as many of the wanted fingerprints as time allows with the values of these files together.

        Returns:
            Matches in the order of `wanted`; empty if the values can't be read.

        Raises:
            As `read`.
        """

    def close(self) -> None:
        """Release all resources; may be called from another thread than the one that reads."""


class HeaderWorker:
    """One worker process, started by the first read. Call `read` and `compare` from one thread, `close` from any."""

    def __init__(self, command: tuple[str, ...] = WORKER, read_seconds: float = READ_SECONDS) -> None:
        self._command = command
        self._read_seconds = read_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._error_output: IO[bytes] | None = None
        self._unkillable: list[subprocess.Popen[bytes]] = []
        self._closed = threading.Event()
        self._reading = threading.Lock()
        self._sent: set[int] = set()
        """The fingerprints sent to the present worker."""

    @property
    def pid(self) -> int | None:
        """The worker's pid; None if none is running."""
        process = self._process
        return None if process is None else process.pid

    def read(self, path: str, suffix: str | None, wanted: Sequence[Wanted] = ()) -> FileRead:
        """See `HeaderReading`. A worker that has died is replaced; if the new one dies too, the file is to blame."""
        with self._reading:
            reply = self._read(Request(os.fsencode(path), suffix), wanted)
        return FileRead(reply.header, reply.matches)

    def compare(self, wanted: Sequence[Wanted], paths: Sequence[str], suffix: str | None) -> Sequence[Match | None]:
        """See `HeaderReading`."""
        first, *others = map(os.fsencode, paths)
        with self._reading:
            return self._read(Request(first, suffix, is_read=False, others=tuple(others)), wanted).matches

    def close(self) -> None:
        """Kill the worker; a read in progress fails."""
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
                    raise UnreadableError(f"the reader process ended while reading it: {cause or error}") from error
            else:
                if reply.reason is not None:
                    raise UnreadableError(reply.reason, reply.unfinished)
                return reply
        raise AssertionError("unreachable")

    def _with_wanted(self, request: Request, wanted: Sequence[Wanted]) -> bytes:
        """The encoded request, with the fingerprints that this worker hasn't been sent yet."""
        forget = len(self._sent) > MAX_SENT
        if forget:
            self._sent.clear()
        new_fingerprints = tuple(one for one in wanted if one.number not in self._sent)
        self._sent.update(one.number for one in new_fingerprints)
        return frame(
            replace(request, wanted=tuple(one.number for one in wanted), new_fingerprints=new_fingerprints, forget=forget)
        )

    def _ask(self, process: subprocess.Popen[bytes], request: bytes) -> Reply:
        assert process.stdin is not None
        deadline = time.monotonic() + self._read_seconds
        process.stdin.write(request)
        return _receive(process, deadline)

    def _start(self) -> subprocess.Popen[bytes]:
        if self._closed.is_set():
            raise NoWorkerError("stopped")
        self._unkillable = [process for process in self._unkillable if process.poll() is None]
        # Open for as long as the worker runs; `_discard` closes it.
        error_output = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            # A session of its own, so that Ctrl-C and Ctrl-Z reach only the viewer. Not in the current directory: `-m` imports
            # from it.
            process = subprocess.Popen(
                self._command,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=error_output,
                cwd="/",
                env=_environment(),
                start_new_session=True,
            )
        except OSError as error:
            error_output.close()
            raise NoWorkerError(f"model files can't be read: their reader process can't be started ({error.strerror})") from error
        self._process, self._error_output = process, error_output
        if self._closed.is_set():  # by another thread, before it could see this worker
            self._discard()
            raise NoWorkerError("stopped")
        try:
            _receive(process, time.monotonic() + START_SECONDS)
        except (TimeoutError, EOFError, OSError, msgspec.MsgspecError) as error:
            cause = self._discard(ended=isinstance(error, EOFError))
            raise NoWorkerError(f"model files can't be read: their reader process fails to start: {cause or error}") from error
        return process

    def _discard(self, ended: bool = False) -> str:
        """End this worker. If it has `ended` by itself, return why: its error output, else its exit status."""
        process, error_output = self._process, self._error_output
        self._process = self._error_output = None
        self._sent.clear()
        cause = ""
        if process is not None:
            status = _wait(process) if ended else None
            if status is None:
                process.kill()
                if _wait(process) is None:
                    self._unkillable.append(process)
            else:
                cause = _status_text(status)
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
        if error_output is not None:
            with error_output:
                error_output.seek(max(0, error_output.seek(0, os.SEEK_END) - 2000))
                lines = error_output.read().decode(errors="replace").strip().splitlines()
            if lines:
                # Python prints the error in the last line; a library that aborts prints it in the first.
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
    """Our environment with our import paths, so that the worker finds the same packages and no others. One thread suffices."""
    import_paths = os.pathsep.join(str(Path(path).absolute()) for path in sys.path if path)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), "1")
    return {**os.environ, **threads, "PYTHONPATH": import_paths, "PYTHONSAFEPATH": "1"}


def _status_text(status: int) -> str:
    if status >= 0:
        return f"exit code {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
