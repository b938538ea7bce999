"""The process that reads model files' headers: `python -m gpumodels_tui.headers.header_worker`, spoken to through its pipes.

Whatever a file does to its reader, it does it here: at low priority, with a limit on memory, and replaceable. A failure that
nobody foresaw ends the process: whoever started it knows which file it was. It also ends with its stdin.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import resource
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, cast

import msgspec

from gpumodels_shared.fingerprint import FileIndex, Match, SoughtSample, may_hold, sought
from gpumodels_tui.headers.formats import READERS
from gpumodels_tui.headers.headers import FRAME, FileHeader, Reply, Request, UnreadableError, frame
from gpumodels_tui.headers.stored_tensors import StoredTensors, unpacked_shapes

MEMORY_LIMIT_BYTES: Final = 280 * 1024 * 1024
"""Of the worker's own memory; mapped files don't count, so large models open all the same."""

BEGINNING_BYTES: Final = 64

COMPARING_SECONDS: Final = 1.0
"""After so long the reply says what is known; the rest is asked for again, so that no request takes too long."""


@dataclass(frozen=True, slots=True)
class HeaderReader:
    """One format's reader, as its module gives it."""

    recognises: Callable[[bytes, int], bool]
    read: Callable[[str, bytes, int], FileHeader]
    read_values: Callable[[str, int, bytes, int], tuple[FileHeader, Callable[[], StoredTensors]]] | None = None
    """Where values can be read: the header, and where the values stand, of an open file."""


@dataclass(frozen=True, slots=True)
class _Sought:
    """A wanted fingerprint, decoded."""

    samples: tuple[SoughtSample, ...]
    shapes: tuple[tuple[int, ...], ...]
    """Sorted: the same for all fine-tunes of one model."""


class Worker:
    """What is known from one request to the next: the readers, and the fingerprints that were told."""

    def __init__(self, readers: dict[str, HeaderReader]) -> None:
        self._readers = readers
        self._sought: dict[int, _Sought] = {}

    def answer(self, request: Request) -> Reply:
        """What was asked for, or why there is none."""
        if request.forget:
            self._sought.clear()
        for one in request.told:
            samples = sought(one.fingerprint)
            self._sought[one.number] = _Sought(samples, tuple(sorted(sample.shape for sample in samples)))
        wanted = [self._sought[number] for number in request.wanted]
        paths = [os.fsdecode(path) for path in (request.path, *request.others)]
        try:
            if request.is_read:
                return self._read(paths[0], request.suffix, wanted)
            return Reply(matches=self._compare(paths, request.suffix, wanted))
        except UnreadableError as error:
            return Reply(reason=error.reason, unfinished=error.unfinished)
        except OSError as error:
            return Reply(reason=(error.strerror or type(error).__name__).lower())
        except (MemoryError, RecursionError) as error:
            return Reply(reason=f"its header takes too much memory ({type(error).__name__})")

    def _read(self, path: str, suffix: str | None, wanted: Sequence[_Sought]) -> Reply:
        with _opened(path) as (descriptor, beginning, size_bytes):
            reader = self._reader_for(suffix, beginning, size_bytes)
            if reader is None or reader.read_values is None:
                return Reply(None if reader is None else reader.read(path, beginning, size_bytes))
            header, values = reader.read_values(path, descriptor, beginning, size_bytes)
            try:
                matches = _matches(header.shapes, values, wanted) if wanted and header.shapes else ()
            except (UnreadableError, OSError, MemoryError):
                matches = ()  # they can be asked for again: the header is good
            return Reply(header, matches)

    def _compare(self, paths: Sequence[str], suffix: str | None, wanted: Sequence[_Sought]) -> tuple[Match | None, ...]:
        """How much of each agrees with these files together; nothing where their values can't be read."""
        together = StoredTensors()
        with contextlib.ExitStack() as opened:
            for path in paths:
                descriptor, beginning, size_bytes = opened.enter_context(_opened(path))
                reader = self._reader_for(suffix, beginning, size_bytes)
                if reader is None or reader.read_values is None:
                    return ()
                _, values = reader.read_values(path, descriptor, beginning, size_bytes)
                together.add_all(values())
            return tuple(_in_time(FileIndex(together), wanted))

    def _reader_for(self, suffix: str | None, beginning: bytes, size_bytes: int) -> HeaderReader | None:
        if suffix is not None:
            return self._readers[suffix]
        return next((reader for reader in self._readers.values() if reader.recognises(beginning, size_bytes)), None)


def _matches(shapes: bytes, values: Callable[[], StoredTensors], wanted: Sequence[_Sought]) -> tuple[Match | None, ...]:
    """How much of each agrees with a file that holds these shapes."""
    there = unpacked_shapes(shapes)
    can_be = {one: may_hold(there, one) for one in dict.fromkeys(one.shapes for one in wanted)}
    if not any(can_be.values()):
        return (None,) * len(wanted)
    return tuple(_in_time(FileIndex(values()), [one if can_be[one.shapes] else None for one in wanted]))


def _in_time(index: FileIndex, wanted: Sequence[_Sought | None]) -> Iterator[Match | None]:
    """A match for each, one at least, until the time is over."""
    until = time.monotonic() + COMPARING_SECONDS
    for number, one in enumerate(wanted):
        if number and time.monotonic() > until:
            return
        yield None if one is None else index.match(one.samples)


def main() -> int:
    """Answer requests until stdin closes."""
    replies = _take_stdout()
    _be_modest()
    worker = Worker({suffix: _load(name) for suffix, name in READERS.items()})
    requests = sys.stdin.buffer
    _write(replies, frame(Reply()))
    while len(head := requests.read(FRAME.size)) == FRAME.size:
        request = msgspec.msgpack.decode(requests.read(FRAME.unpack(head)[0]), type=Request)
        try:
            _write(replies, frame(worker.answer(request)))
        except BrokenPipeError:
            break
    return 0


@contextlib.contextmanager
def _opened(path: str) -> Iterator[tuple[int, bytes, int]]:
    """A descriptor, the file's first bytes and its size. What is not a regular file isn't even opened: opening a device can do
    things."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise UnreadableError("not a regular file")
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableError("not a regular file")
        yield descriptor, os.pread(descriptor, BEGINNING_BYTES, 0), status.st_size
    finally:
        os.close(descriptor)


def _load(name: str) -> HeaderReader:
    module = importlib.import_module(name)
    return HeaderReader(
        cast("Callable[[bytes, int], bool]", module.recognises),
        cast("Callable[[str, bytes, int], FileHeader]", module.read),
        cast(
            "Callable[[str, int, bytes, int], tuple[FileHeader, Callable[[], StoredTensors]]] | None",
            getattr(module, "read_values", None),
        ),
    )


def _take_stdout() -> int:
    """A descriptor for replies alone: what a library prints goes to stderr."""
    replies = os.dup(1)
    os.dup2(2, 1)
    return replies


def _be_modest() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.nice(10)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


if __name__ == "__main__":
    sys.exit(main())
