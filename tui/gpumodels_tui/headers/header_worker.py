"""The process that reads model files' headers: `python -m gpumodels_tui.headers.header_worker`, used through its pipes.

Damage that a malformed file can do is confined to this process, which runs at low priority with limited memory and can be
replaced. An unexpected error ends it; its parent knows which file it was reading. It also ends when its stdin is closed.
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

from gpumodels_shared.fingerprint import DecodedSample, FileIndex, Match, decode_samples, shapes_may_match
from gpumodels_tui.headers.formats import READERS
from gpumodels_tui.headers.headers import FRAME, FileHeader, Reply, Request, UnreadableError, frame
from gpumodels_tui.headers.stored_tensors import StoredTensors, unpacked_shapes

MEMORY_LIMIT_BYTES: Final = 280 * 1024 * 1024
"""The limit for the worker's own memory; mapped files don't count, so that large models can be opened."""

BEGINNING_BYTES: Final = 64

COMPARING_SECONDS: Final = 1.0
"""After this time the worker replies with the matches so far; the viewer requests the rest again."""


@dataclass(frozen=True, slots=True)
class HeaderReader:
    """The functions of one format's module, see `formats.READERS`."""

    recognises: Callable[[bytes, int], bool]
    read: Callable[[str, bytes, int], FileHeader]
    read_values: Callable[[str, int, bytes, int], tuple[FileHeader, Callable[[], StoredTensors]]] | None = None
    """The header of an open file and a function for its tensors' positions; None if values can't be read."""


@dataclass(frozen=True, slots=True)
class _Decoded:
    """A wanted fingerprint, decoded for comparing."""

    samples: tuple[DecodedSample, ...]
    shapes: tuple[tuple[int, ...], ...]
    """Sorted, so that all fine-tunes of one model have the same."""


class Worker:
    """Answers requests; keeps the readers, and the fingerprints received so far."""

    def __init__(self, readers: dict[str, HeaderReader]) -> None:
        self._readers = readers
        self._fingerprints: dict[int, _Decoded] = {}

    def answer(self, request: Request) -> Reply:
        """The reply to the request; errors because of a file are part of it."""
        if request.forget:
            self._fingerprints.clear()
        for one in request.new_fingerprints:
            samples = decode_samples(one.fingerprint)
            self._fingerprints[one.number] = _Decoded(samples, tuple(sorted(sample.shape for sample in samples)))
        wanted = [self._fingerprints[number] for number in request.wanted]
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

    def _read(self, path: str, suffix: str | None, wanted: Sequence[_Decoded]) -> Reply:
        with _opened(path) as (descriptor, beginning, size_bytes):
            reader = self._reader_for(suffix, beginning, size_bytes)
            if reader is None or reader.read_values is None:
                return Reply(None if reader is None else reader.read(path, beginning, size_bytes))
            header, values = reader.read_values(path, descriptor, beginning, size_bytes)
            try:
                matches = _matches(header.shapes, values, wanted) if wanted and header.shapes else ()
            except (UnreadableError, OSError, MemoryError):
                matches = ()  # they can be requested again; the header is still useful
            return Reply(header, matches)

    def _compare(self, paths: Sequence[str], suffix: str | None, wanted: Sequence[_Decoded]) -> tuple[Match | None, ...]:
        """Match each fingerprint with these files together; empty if their values can't be read."""
        tensors = StoredTensors()
        with contextlib.ExitStack() as opened:
            for path in paths:
                descriptor, beginning, size_bytes = opened.enter_context(_opened(path))
                reader = self._reader_for(suffix, beginning, size_bytes)
                if reader is None or reader.read_values is None:
                    return ()
                _, values = reader.read_values(path, descriptor, beginning, size_bytes)
                tensors.add_all(values())
            return tuple(_in_time(FileIndex(tensors), wanted))

    def _reader_for(self, suffix: str | None, beginning: bytes, size_bytes: int) -> HeaderReader | None:
        if suffix is not None:
            return self._readers[suffix]
        return next((reader for reader in self._readers.values() if reader.recognises(beginning, size_bytes)), None)


def _matches(shapes: bytes, values: Callable[[], StoredTensors], wanted: Sequence[_Decoded]) -> tuple[Match | None, ...]:
    """Match each fingerprint with a file that contains these shapes."""
    file_shapes = unpacked_shapes(shapes)
    is_possible = {one: shapes_may_match(file_shapes, one) for one in dict.fromkeys(one.shapes for one in wanted)}
    if not any(is_possible.values()):
        return (None,) * len(wanted)
    return tuple(_in_time(FileIndex(values()), [one if is_possible[one.shapes] else None for one in wanted]))


def _in_time(index: FileIndex, wanted: Sequence[_Decoded | None]) -> Iterator[Match | None]:
    """Yield a match for each fingerprint until `COMPARING_SECONDS` are over, but at least one."""
    until = time.monotonic() + COMPARING_SECONDS
    for number, one in enumerate(wanted):
        if number and time.monotonic() > until:
            return
        yield None if one is None else index.match(one.samples)


def main() -> int:
    """Answer requests until stdin closes."""
    replies = _claim_stdout()
    _limit_resources()
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
    """A descriptor, the file's first bytes and its size. Only regular files are opened: opening a device can have effects."""
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


def _claim_stdout() -> int:
    """A descriptor for replies only; anything that a library prints goes to stderr."""
    replies = os.dup(1)
    os.dup2(2, 1)
    return replies


def _limit_resources() -> None:
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
